"""A real training run of sae-lens: the checkpoint in its middle, and the one at its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sae_lens import TrainingSAE
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.activation_scaler import ActivationScaler
from sae_lens.training.sae_trainer import SAETrainer

from saes.converter import convert, inspect
from saes.formats import FolderSource, find_saes
from tests.interop.built import TRAINING, released, training
from tests.interop.sides import assert_near, inputs, theirs, through_theirs

FOLDED = {
    "expected_average_only_in": TRAINING,
    "covariance_whitening": [it for it in TRAINING if it != "matching_pursuit"],
}


def activations() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    while True:
        yield torch.randn(32, 16, generator=generator) * 3 + 0.5


def trained(architecture: str, normalisation: str, folder: Path) -> None:
    """Leaves folder/160 in the middle and folder/final_256 at the end."""
    cfg = SAETrainerConfig(
        total_training_samples=256,
        train_batch_size_samples=32,
        lr_end=1e-4,
        n_checkpoints=1,
        checkpoint_path=str(folder),
        save_final_checkpoint=True,
        logger=LoggingConfig(log_to_wandb=False),
        n_batches_for_norm_estimate=8,
    )
    sae = training(architecture, normalize_activations=normalisation)
    SAETrainer(cfg, sae, activations()).fit()


@pytest.mark.parametrize(
    ("normalisation", "architecture"),
    [(normalisation, it) for normalisation, names in FOLDED.items() for it in names],
)
def test_both_checkpoints_are_found_and_give_what_the_trainer_has(
    normalisation: str, architecture: str, tmp_path: Path
) -> None:
    trained(architecture, normalisation, tmp_path / "run")
    found = [it.where for it in find_saes(FolderSource(tmp_path / "run").tree)]
    assert found == ["160", "final_256"]
    assert inspect(tmp_path / "run", "final_256").get("normalize_activations") == "none"
    for where in found:
        checkpoint = tmp_path / "run" / where
        sae, scaler = TrainingSAE.load_from_disk(checkpoint), ActivationScaler()
        scaler.load(checkpoint / "activation_scaler.json")
        goal = theirs(released(sae, tmp_path / "goal" / where, scaler))
        done = convert(tmp_path / "run", tmp_path / "out" / where, to="saelens", where=where)
        assert done.certificate is not None
        assert done.certificate.passed
        written = theirs(tmp_path / "out" / where)
        assert_near(through_theirs(written, inputs()), through_theirs(goal, inputs()))
