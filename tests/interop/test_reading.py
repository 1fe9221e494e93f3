"""What sae-lens writes, read by us: the same tensors, features and reconstruction."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens.training.activation_scaler import ActivationScaler

from saes.converter import convert, load
from saes.formats.architectures import PLAIN
from tests.fixtures import Array
from tests.interop.built import (
    INFERENCE,
    TRAINING,
    checkpoint,
    inference,
    released,
    training,
    whitening,
)
from tests.interop.sides import (
    assert_near,
    inputs,
    theirs,
    through_ours,
    through_theirs,
    weights,
)

DTYPES = ("float32", "float64", "float16", "bfloat16")
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")
SEQUENCE = inputs(rows=24).reshape(2, 12, 16)


def converted(folder: Path) -> Path:
    """To SAELens' own format, certified."""
    done = convert(folder, folder.with_name("converted"), to="saelens")
    assert done.certificate is not None
    assert done.certificate.passed
    return folder.with_name("converted")


def assert_same_tensors(one: Any, other: Any) -> None:
    assert weights(one).keys() == weights(other).keys()
    for name, values in weights(one).items():
        assert np.array_equal(values, weights(other)[name]), name


def features(sae: Any, x: Array) -> tuple[Array, Array]:
    if sae.cfg.architecture() != "temporal":
        return through_theirs(sae, x)
    with torch.no_grad():
        given = torch.from_numpy(SEQUENCE)
        return sae.encode(given).numpy(), sae(given).numpy()


def test_every_architecture_of_sae_lens_is_tested() -> None:
    assert {"standard", "gated", "topk", "jumprelu", "temporal"} < set(INFERENCE)
    assert {"standard", "batchtopk", "matryoshka_batchtopk"} < set(TRAINING)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", INFERENCE)
def test_a_saved_sae_is_read_and_written_bit_for_bit(
    architecture: str, dtype: str, normalisation: str, tmp_path: Path
) -> None:
    inference(architecture, dtype=dtype, normalize_activations=normalisation).save_model(
        tmp_path / "in"
    )
    written = converted(tmp_path / "in")
    assert_same_tensors(theirs(written, dtype=None), theirs(tmp_path / "in", dtype=None))
    wanted = features(theirs(tmp_path / "in"), inputs())
    assert_near(features(theirs(written), inputs()), wanted)
    if architecture in PLAIN:
        assert_near(through_ours(tmp_path / "in", inputs()), wanted)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("temporal", {"tied_weights": False, "apply_b_dec_to_input": False}),
        ("temporal", {"sae_diff_type": "relu", "n_attn_layers": 2, "kval_topk": None}),
        (
            "temporal",
            {
                "normalize_activations": "constant_scalar_rescale",
                "activation_normalization_factor": 0.29,
            },
        ),
        ("matching_pursuit", {"residual_threshold": 2.5, "max_iterations": None}),
        ("matching_pursuit", {"stop_on_duplicate_support": False, "apply_b_dec_to_input": False}),
        ("topk", {"rescale_acts_by_decoder_norm": True}),
        ("abstopk", {"rescale_acts_by_decoder_norm": True}),
        ("standard", {"apply_b_dec_to_input": False}),
        ("standard", {"normalize_activations": "covariance_whitening"}),
    ],
)
def test_every_setting_survives(architecture: str, options: dict[str, Any], tmp_path: Path) -> None:
    inference(architecture, **options).save_model(tmp_path / "in")
    written = theirs(converted(tmp_path / "in"), dtype=None)
    assert {name: getattr(written.cfg, name) for name in options} == options
    wanted = features(theirs(tmp_path / "in"), inputs())
    assert_near(features(theirs(tmp_path / "converted"), inputs()), wanted)


# --- training checkpoints -----------------------------------------------------------------------


def assert_released_alike(sae: Any, folder: Path, scaler: ActivationScaler | None = None) -> None:
    """Our reading of the checkpoint gives what sae-lens makes of it at the end of training."""
    source = checkpoint(sae, folder / "checkpoint", scaler)
    goal = theirs(released(copy.deepcopy(sae), folder / "released", scaler))
    written = theirs(converted(source))
    assert written.cfg.architecture() == goal.cfg.architecture()
    assert_near(through_theirs(written, inputs()), through_theirs(goal, inputs()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", TRAINING)
def test_a_training_checkpoint_becomes_what_sae_lens_releases(
    architecture: str, dtype: str, tmp_path: Path
) -> None:
    sae = training(architecture, dtype=dtype)
    if dtype == "bfloat16":
        sae = rounded(sae)
    assert_released_alike(sae, tmp_path)


def rounded(sae: Any) -> Any:
    """Folding norms in bfloat16 rounds: with norms of one there is nothing to round."""
    sae.W_dec.data = torch.nn.functional.one_hot(torch.arange(64) % 16, 16).to(sae.dtype)
    return sae


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("architecture", TRAINING)
def test_a_factor_not_folded_yet_is_folded_as_sae_lens_does(
    architecture: str, centred: bool, tmp_path: Path
) -> None:
    sae = training(
        architecture,
        normalize_activations="expected_average_only_in",
        apply_b_dec_to_input=centred,
    )
    assert_released_alike(sae, tmp_path, ActivationScaler(scaling_factor=0.37))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("architecture", [it for it in TRAINING if it != "matching_pursuit"])
def test_whitening_not_folded_yet_is_folded_as_sae_lens_does(
    architecture: str, centred: bool, tmp_path: Path
) -> None:
    sae = training(
        architecture, normalize_activations="covariance_whitening", apply_b_dec_to_input=centred
    )
    assert_released_alike(sae, tmp_path, ActivationScaler(whitening=whitening()))


@pytest.mark.parametrize("architecture", ["topk", "abstopk", "batchtopk", "matryoshka_batchtopk"])
@pytest.mark.parametrize("normalisation", ["expected_average_only_in", "covariance_whitening"])
def test_folding_without_decoder_norms(
    architecture: str, normalisation: str, tmp_path: Path
) -> None:
    sae = training(
        architecture, normalize_activations=normalisation, rescale_acts_by_decoder_norm=False
    )
    scaler = ActivationScaler(scaling_factor=0.37)
    if normalisation == "covariance_whitening":
        scaler = ActivationScaler(whitening=whitening())
    assert_released_alike(sae, tmp_path, scaler)


def test_a_threshold_in_float32_beside_bfloat16_weights_is_kept(tmp_path: Path) -> None:
    sae = training("jumprelu", dtype="bfloat16")
    assert sae.threshold.dtype == torch.float32
    source = checkpoint(sae, tmp_path / "in")
    kept = theirs(converted(source), dtype=None)
    assert torch.equal(kept.threshold, sae.threshold)
    assert load(source).tensors["W_enc"].dtype == "BF16"


def test_log_thresholds_are_read_as_their_exponentials(tmp_path: Path) -> None:
    from sae_lens import TrainingSAE
    from safetensors.torch import load_file, save_file

    source = checkpoint(training("jumprelu"), tmp_path / "in")
    stored = load_file(source / "sae_weights.safetensors")
    stored["log_threshold"] = stored.pop("threshold").log()
    save_file(stored, source / "sae_weights.safetensors")
    goal = TrainingSAE.load_from_disk(source)
    written = theirs(converted(source), dtype=None)
    assert torch.allclose(written.threshold, goal.threshold, rtol=1e-6, atol=0)
    assert_near(through_theirs(written, inputs()), through_theirs(goal, inputs()))
