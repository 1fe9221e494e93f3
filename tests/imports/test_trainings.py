"""Training runs: found, and their SAEs brought in one by one, with what the run knows of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from saes import imports, jobs, services, trainings
from saes.errors import TrainingNotCompleted
from saes.models import Sae, Training
from tests.imports.test_files import assert_ready
from tests.jobs.conftest import SAMPLES

GENERATIONS: dict[str, dict[str, Any]] = {
    "mistudio_v1_multilayer": {
        "architecture_type": "standard", "normalize_activations": "constant_norm_rescale",
        "hidden_dim": 16, "latent_dim": 64,
    },
    "mistudio_v2_topk": {
        "architecture_type": "topk", "normalize_activations": "none", "top_k_sparsity": 5,
        "generation": 2,
    },
    "mistudio_v1_jumprelu": {
        "architecture_type": "jumprelu", "normalize_activations": "none", "generation": 1,
        "initial_threshold": 0.5,
    },
    "mistudio_v1_community_format": {},
}  # fmt: skip


def run_of(sample: str, folder: Path, **record: Any) -> Path:
    """A run's folder as miStudio leaves it, with a record beside it."""
    shutil.copytree(SAMPLES / sample / "repo", folder)
    (folder / "training.json").write_text(json.dumps({"name": "My run", **record}))
    return folder


@pytest.mark.parametrize("sample", GENERATIONS)
def test_every_sae_of_a_run_becomes_ready(sample: str, settings: Settings) -> None:
    run_of(
        sample, settings.TRAININGS_DIR / "train_abc", hyperparameters=GENERATIONS[sample],
        final_loss=0.25, final_l0=12.5, dataset_ids=["tiny"], current_step=5000, model_name="toy",
    )  # fmt: skip
    training = trainings.training_of("train_abc")
    items = trainings.offered(trainings.items_of(training))
    assert items
    brought = imports.import_training(None, training, items)
    assert len(brought.jobs) == len(items)
    for job, item in zip(brought.jobs, items, strict=True):
        jobs.run(job.id)
        sae = Sae.objects.get(id=job.sae_id)
        assert_ready(sae)
        assert (sae.name, sae.training) == (f"My run ({item.label})", training)
        assert (sae.trained["final_l0"], sae.trained["datasets"]) == (12.5, ["tiny"])
        assert sae.layer == item.layer
        assert sae.model_name == "toy"
        origins = {name: fact["origin"] for name, fact in sae.facts.items()}
        assert origins["model_name"] == "training"
        assert "user" not in origins.values()
        # What is exported and published of it says the same.
        stored = (services.library().native(sae.id) / "metadata.json").read_text()
        assert {it["origin"] for it in json.loads(stored)["facts"].values()} == {*origins.values()}
    assert imports.import_training(None, training, items).jobs == []


def test_a_run_without_a_record_asks_for_what_its_checkpoints_do_not_say(
    settings: Settings,
) -> None:
    shutil.copytree(SAMPLES / "mistudio_v1_jumprelu/repo", settings.TRAININGS_DIR / "train_abc")
    training = trainings.training_of("train_abc")
    brought = imports.import_training(None, training, trainings.items_of(training))
    jobs.run(brought.jobs[0].id)
    sae = Sae.objects.get(id=brought.jobs[0].sae_id)
    assert (sae.status, sae.error_code) == ("error", "needs_facts")
    assert sae.missing_facts


@pytest.mark.parametrize("status", sorted({*Training.Status.values} - {"completed"}))
def test_only_completed_runs_give_their_saes(status: str, settings: Settings) -> None:
    run_of("mistudio_v2_topk", settings.TRAININGS_DIR / "train_abc", status=status)
    with pytest.raises(TrainingNotCompleted, match=status):
        trainings.items_of(trainings.training_of("train_abc"))
