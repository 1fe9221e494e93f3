"""SAELens: what a training checkpoint has not folded into its weights yet."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from saes.converter import convert, inspect, load
from saes.errors import BadFact, BrokenFile, UnsupportedArchitecture
from tests.fixtures import tensors, write_saelens
from tests.formats.saelens_folders import refused, scaled, write_not_plain

ONES = np.ones(64, np.float32)


@pytest.mark.parametrize("by", ["file", "user"])
def test_a_norm_factor_is_folded_into_the_weights(by: str, tmp_path: Path) -> None:
    source = scaled(tmp_path / "in", 0.37 if by == "file" else None)
    facts = {"norm_scaling_factor": 0.37} if by == "user" else {}
    done = convert(source, tmp_path / "out", facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed
    assert done.info.facts["norm_scaling_factor"].origin == by
    folded = load(tmp_path / "out")
    assert folded.info.get("normalize_activations") == "none"
    assert np.allclose(folded.tensors["W_enc"].all(), tensors()["W_enc"] * 0.37, rtol=1e-6)
    assert np.allclose(folded.tensors["b_dec"].all(), tensors()["b_dec"] / 0.37, rtol=1e-6)


def test_a_factor_that_nobody_tells_stays_a_fact_with_a_warning(tmp_path: Path) -> None:
    done = convert(scaled(tmp_path / "in", None), tmp_path / "out")
    assert done.info.get("normalize_activations") == "expected_average_only_in"
    assert "factor" in done.info.get("warning")


@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "gated", "topk", "jumprelu", "batchtopk"])
def test_whitening_is_folded_into_the_weights(
    architecture: str, centred: bool, rescaled: bool, tmp_path: Path
) -> None:
    told: dict[str, Any] = {"apply_b_dec_to_input": centred}
    told["rescale_acts_by_decoder_norm"] = rescaled
    if architecture == "batchtopk":
        told |= {"topk_threshold": np.array(1.25), "k": 4.5}
    source = whitened(tmp_path / "in", architecture, **told)
    done = convert(source, tmp_path / "out")
    assert done.certificate is not None
    assert done.certificate.passed
    assert inspect(tmp_path / "out").get("normalize_activations") == "none"


def test_whitening_that_is_not_there_is_missed(tmp_path: Path) -> None:
    source = whitened(tmp_path)
    (source / "activation_whitening.safetensors").unlink()
    refused(source, BrokenFile, "activation_whitening.safetensors")


def test_whitening_of_another_width_is_broken(tmp_path: Path) -> None:
    source = whitened(tmp_path)
    square = np.eye(15)
    stored = {"mean": square[0], "matrix": square, "inverse_matrix": square}
    save_file(stored, source / "activation_whitening.safetensors")
    refused(source, BrokenFile, "inverse_matrix is")


def test_whitening_of_a_matching_pursuit_is_refused(tmp_path: Path) -> None:
    source = whitened(tmp_path, "matching_pursuit", W_enc=None, b_enc=None)
    refused(source, UnsupportedArchitecture, "Whitening")


def whitened(folder: Path, architecture: str = "standard", **changes: Any) -> Path:
    source = write_saelens(
        folder, architecture, **{"normalize_activations": "covariance_whitening", **changes}
    )
    random = np.random.default_rng(3)
    matrix = np.eye(16) + random.standard_normal((16, 16)) / 8
    stored = {"mean": matrix[0], "matrix": matrix, "inverse_matrix": np.linalg.inv(matrix)}
    save_file(stored, source / "activation_whitening.safetensors")
    told = {"scaling_factor": None, "has_whitening": True}
    (source / "activation_scaler.json").write_text(json.dumps(told))
    return source


@pytest.mark.parametrize("architecture", ["temporal", "transcoder"])
def test_a_factor_that_cannot_be_folded_is_refused(architecture: str, tmp_path: Path) -> None:
    write = write_not_plain if architecture == "temporal" else write_saelens
    source = write(tmp_path, architecture, normalize_activations="expected_average_only_in")
    refused(source, BadFact, "cannot be folded", norm_scaling_factor=0.37)
    (source / "activation_scaler.json").write_text('{"scaling_factor": 0.37}')
    refused(source, UnsupportedArchitecture, "cannot be folded")


def test_a_factor_that_would_leave_nothing_is_refused(tmp_path: Path) -> None:
    source = scaled(tmp_path, 1e-320)
    refused(source, UnsupportedArchitecture, "norm_scaling_factor of")
    refused(source, BadFact, "norm_scaling_factor of", norm_scaling_factor=1e40)


def test_a_factor_without_its_normalisation_is_refused(tmp_path: Path) -> None:
    refused(write_saelens(tmp_path), BadFact, "belongs to", norm_scaling_factor=0.37)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_the_released_form_of_batch_topk_may_be_stated_and_no_other(
    architecture: str, tmp_path: Path
) -> None:
    source = write_saelens(tmp_path / "in", architecture, topk_threshold=np.array(1.25), k=4.0)
    silent = load(source)
    done = convert(source, tmp_path / "out", facts={"architecture": "jumprelu"})
    assert done.certificate is not None
    assert done.certificate.passed
    assert done.info.get("training_architecture") == architecture
    for name, tensor in load(source, facts={"architecture": "jumprelu"}).tensors.items():
        assert np.array_equal(tensor.all(), silent.tensors[name].all()), name
    refused(source, BadFact, "architecture", architecture="topk")
    refused(source, BadFact, "k belongs to top-k", k=5)


def test_a_folded_bf16_sae_is_kept_in_float32(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    source = scaled(tmp_path / "in", 0.37)
    narrow = {name: torch.from_numpy(it).bfloat16() for name, it in tensors().items()}
    save_file(narrow, source / "sae_weights.safetensors")
    done = convert(source, tmp_path / "out")
    assert done.certificate is not None
    assert done.certificate.passed
    assert load(tmp_path / "out").tensors["W_enc"].dtype == "F32"


@pytest.mark.parametrize("rescaled", [True, False, None])
@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_batch_topk_becomes_the_jumprelu_that_saelens_releases(
    architecture: str, rescaled: bool | None, tmp_path: Path
) -> None:
    threshold = np.array(1.25, np.float64)
    source = write_saelens(
        tmp_path / "in",
        architecture,
        topk_threshold=threshold,
        k=4.0,
        rescale_acts_by_decoder_norm=rescaled,
    )
    done = convert(source, tmp_path / "out")
    assert done.certificate is not None
    assert done.certificate.passed
    assert done.info.get("architecture") == "jumprelu"
    assert done.info.get("training_architecture") == architecture
    norms = np.linalg.norm(load(tmp_path / "out").tensors["W_dec"].all(), axis=1)
    assert np.allclose(norms, 1) == (rescaled is not False)


def test_log_threshold_is_read_as_its_exponential(tmp_path: Path) -> None:
    source = write_saelens(
        tmp_path / "in", "jumprelu", threshold=None, log_threshold=np.log(ONES / 3)
    )
    done = convert(source, tmp_path / "out")
    assert done.certificate is not None
    assert done.certificate.passed
    assert np.allclose(load(tmp_path / "out").tensors["threshold"].all(), 1 / 3)


def test_a_factor_scales_the_length_at_which_matching_pursuit_stops(tmp_path: Path) -> None:
    source = scaled(
        tmp_path, 0.5, architecture="matching_pursuit", W_enc=None, b_enc=None, residual_threshold=3
    )
    read = load(source)
    assert read.info.get("residual_threshold") == 6
    assert np.array_equal(read.tensors["W_dec"].all(), tensors()["W_dec"])
    assert np.array_equal(read.tensors["b_dec"].all(), tensors()["b_dec"] * 2)
