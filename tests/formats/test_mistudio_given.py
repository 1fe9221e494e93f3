"""What a user states about miStudio's SAEs: used, or refused by its name; never passed over."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saes.converter import convert, inspect, load
from saes.errors import BadFact, BrokenFile, CannotRepresent
from saes.formats import FolderSource, by_slug
from tests.fixtures import write_legacy, write_saelens
from tests.fixtures.mistudio import asked, certified, jumprelu, linear

FIRST = ("decoder_bias", "decoder.bias")
X = np.random.default_rng(5).standard_normal((8, 16)).astype(np.float32)
NORMALISED = {"normalize_activations": "constant_norm_rescale"}


def first_topk(made: dict[str, Any], k: int) -> torch.Tensor:
    """Generation 1: normalised, not centred, ReLU before the largest k are kept."""
    x = torch.from_numpy(X).double()
    x = x * (16**0.5 / x.norm(dim=-1, keepdim=True))
    weights, bias = (torch.from_numpy(made[f"encoder.{it}"]).double() for it in ("weight", "bias"))
    acts = torch.relu(x @ weights.T + bias)
    values, kept = acts.topk(k, dim=-1)
    return torch.zeros_like(acts).scatter(-1, kept, values)


def test_a_stated_k_means_top_k(tmp_path: Path) -> None:
    made = linear(*FIRST)
    folder = write_legacy(tmp_path / "in", made, architecture="SparseAutoencoder")
    info = certified(folder, tmp_path / "out", k=6, **NORMALISED)
    assert (info.get("architecture"), info.get("k"), info.get("warning")) == ("topk", 6, None)
    forward = by_slug("mistudio").reference(FolderSource(tmp_path / "out"), ".", {})
    acts = forward.encode(X.astype(np.float64), lambda count: None)
    assert np.allclose(acts, first_topk(made, 6).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "biases", "architecture"),
    [
        ("SkipAutoencoder", FIRST, "topk_skip_transcoder"),
        ("Transcoder", ("decoder.bias",), "topk_transcoder"),
    ],
)
def test_with_k_a_transcoder_and_a_skip_are_what_only_the_neutral_form_holds(
    kind: str, biases: tuple[str, ...], architecture: str, tmp_path: Path
) -> None:
    folder = write_legacy(tmp_path / "in", linear(*biases), architecture=kind)
    told = {"normalize_activations": "none", "k": 6}
    assert certified(folder, tmp_path / "out", **told).get("architecture") == architecture
    with pytest.raises(CannotRepresent, match=architecture):
        convert(folder, tmp_path / "saelens", "saelens", facts=told)


def test_a_tied_checkpoint_with_k_still_asks_for_its_generation(tmp_path: Path) -> None:
    folder = write_legacy(
        tmp_path, linear("decoder_bias", tied=True), architecture="SparseAutoencoder"
    )
    told = {**NORMALISED, "k": 6}
    assert [it.name for it in inspect(folder, given=told).missing] == ["generation"]
    assert inspect(folder, given={**told, "generation": 1}).get("architecture") == "topk"
    with pytest.raises(BadFact, match="k says nothing"):
        inspect(folder, given={**told, "generation": 2})


def test_the_second_generation_had_k_in_one_class_alone(tmp_path: Path) -> None:
    made = linear("decoder_bias")
    named = write_legacy(tmp_path / "named", made, architecture="SparseAutoencoder")
    for facts in ({"k": 6}, {"architecture": "topk", "k": 6}):
        with pytest.raises(BadFact):
            inspect(named, given=facts)
    by_hand = write_legacy(tmp_path / "by hand", made)
    info = certified(by_hand, tmp_path / "out", normalize_activations="none", k=6)
    assert (info.get("architecture"), info.get("apply_b_dec_to_input")) == ("topk", True)


@pytest.mark.parametrize(
    ("stored", "kind", "wrong"),
    [
        (jumprelu(), "JumpReLUSAE", {"k": 6}),
        (linear(*FIRST), "SparseAutoencoder", {"k": 65}),
        (linear(*FIRST), "SparseAutoencoder", {"k": 6, "architecture": "standard"}),
        (linear(*FIRST), "SparseAutoencoder", {"architecture": "jumprelu"}),
        (linear(*FIRST), "SparseAutoencoder", {"architecture": "skip_transcoder"}),
        (linear(*FIRST), "SparseAutoencoder", {"normalize_activations": "layer_norm"}),
        (linear(*FIRST), "SparseAutoencoder", {"norm_scaling_factor": 2.0}),
        (linear(*FIRST), "SparseAutoencoder", {"orientation": "d_in,d_sae"}),
        (linear("b_pre"), "TopKSAE", {"generation": 1}),
        (linear("b_pre"), "TopKSAE", {"architecture": "standard"}),
        (linear("decoder_bias"), "SkipAutoencoder", {"apply_b_dec_to_input": False}),
        (linear("decoder_bias"), "SkipAutoencoder", {"apply_b_dec_to_input": True}),
        (linear(*FIRST), "SkipAutoencoder", {"apply_b_dec_to_input": True}),
        (linear("decoder.bias"), "Transcoder", {"apply_b_dec_to_input": True}),
        (linear("decoder.bias", "b_enc_center"), "Transcoder", {"apply_b_dec_to_input": "true"}),
        (linear("decoder.bias"), "Transcoder", {"normalize_activations": "constant_norm_rescale"}),
    ],
)
def test_a_fact_that_cannot_be_is_refused_by_its_name(
    stored: dict[str, Any], kind: str, wrong: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_legacy(tmp_path, stored, architecture=kind)
    with pytest.raises(BadFact, match=next(iter(wrong))):
        inspect(folder, given=wrong)


def test_facts_that_agree_are_taken(tmp_path: Path) -> None:
    made = linear("decoder.bias", "b_enc_center")
    folder = write_legacy(tmp_path / "in", made, architecture="Transcoder")
    told = {"apply_b_dec_to_input": False, "normalize_activations": "none", "generation": 2}
    certified(folder, tmp_path / "out", architecture="transcoder", orientation="d_sae,d_in", **told)


def test_without_a_header_the_user_says_which_of_two_classes_it_is(tmp_path: Path) -> None:
    folder = write_legacy(tmp_path / "in", linear(*FIRST), "")
    info = certified(
        folder, tmp_path / "out", architecture="skip_transcoder", normalize_activations="none"
    )
    assert info.get("architecture") == "skip_transcoder"
    assert np.array_equal(load(tmp_path / "out").tensors["W_skip"].all(), np.eye(16))
    with pytest.raises(BadFact, match="architecture"):
        inspect(folder, given={"architecture": "transcoder"})


@pytest.mark.parametrize("kind", ["SparseAutoencoder", "SkipAutoencoder", None])
def test_a_decoder_bias_without_its_weight_is_broken(kind: str | None, tmp_path: Path) -> None:
    made = linear(*FIRST, tied=True)
    folder = write_legacy(tmp_path, made, **({"architecture": kind} if kind else {}))
    with pytest.raises(BrokenFile, match=r"lacks the tensor decoder\.weight"):
        inspect(folder)


def test_what_came_from_another_format_has_no_generation(tmp_path: Path) -> None:
    folder = write_legacy(tmp_path, linear(*FIRST))
    (folder / "metadata.json").write_text(json.dumps({"original_format": "community_standard"}))
    for wrong in ({"generation": 1}, {"normalize_activations": "covariance_whitening"}):
        with pytest.raises(BadFact, match=next(iter(wrong))):
            inspect(folder, given=wrong)
    told = {"apply_b_dec_to_input": True, "normalize_activations": "layer_norm", "k": 6}
    assert inspect(folder, given=told).get("architecture") == "topk"


# --- the native form, which states everything -----------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "wrong"),
    [
        ("standard", {"k": 6}),
        ("standard", {"architecture": "topk"}),
        ("standard", {"generation": 1}),
        ("standard", {"normalize_activations": "covariance_whitening"}),
        ("standard", {"norm_scaling_factor": 2.0}),
        ("topk", {"k": 65}),
        ("jumprelu", {"k": 6}),
        ("transcoder", {"apply_b_dec_to_input": True}),
        ("transcoder", {"normalize_activations": "layer_norm"}),
    ],
)
def test_the_native_form_is_not_contradicted(
    architecture: str, wrong: dict[str, Any], tmp_path: Path
) -> None:
    convert(write_saelens(tmp_path / "in", architecture), tmp_path / "out", "mistudio")
    with pytest.raises(BadFact, match=next(iter(wrong))):
        inspect(tmp_path / "out", given=wrong)


def test_the_arithmetic_around_native_weights_can_be_stated_anew(tmp_path: Path) -> None:
    convert(write_saelens(tmp_path / "in", "topk"), tmp_path / "out", "mistudio")
    told = {"k": 3, "apply_b_dec_to_input": False, "normalize_activations": "layer_norm"}
    info = certified(tmp_path / "out", tmp_path / "again", **told)
    assert [info.get(name) for name in told] == [3, False, "layer_norm"]


# --- exports --------------------------------------------------------------------------------------


def export(folder: Path, architecture: str = "standard", **extra: Any) -> Path:
    return write_saelens(
        folder, architecture, metadata=None, apply_b_dec_to_input=False,
        normalize_activations="none", mistudio_training_id="train_1", extra_metadata=extra,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "extra", "wrong"),
    [
        ("standard", {"top_k_sparsity": None}, {"generation": 2}),
        ("standard", {"top_k_sparsity": None}, {"k": 6}),
        ("standard", {"top_k_sparsity": None}, {"architecture": "topk"}),
        ("standard_saelens", {}, {"architecture": "transcoder"}),
        ("standard_saelens", {}, {"generation": 1}),
        ("standard_saelens", {}, {"k": 6}),
        ("standard_saelens", {}, {"orientation": "d_sae,d_in"}),
        ("standard_saelens", {}, {"normalize_activations": "layer_norm"}),
        ("jumprelu", {"top_k": None}, {"k": 6}),
        ("topk", {"top_k": 5}, {"k": 65}),
        ("transcoder", {"top_k_sparsity": None}, {"apply_b_dec_to_input": True}),
        ("transcoder", {"top_k_sparsity": None}, {"normalize_activations": "layer_norm"}),
    ],
)
def test_an_export_is_not_contradicted(
    architecture: str, extra: dict[str, Any], wrong: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadFact, match=next(iter(wrong))):
        inspect(export(tmp_path, architecture, **extra), given=wrong)


def test_an_export_that_is_silent_on_top_k_is_completed(tmp_path: Path) -> None:
    folder = export(tmp_path / "in")
    assert asked(folder) == ["generation"]
    info = certified(folder, tmp_path / "out", generation=1, k=6)
    assert (info.get("architecture"), info.get("k")) == ("topk", 6)
    with pytest.raises(BadFact, match="k says nothing"):
        inspect(folder, given={"generation": 2, "k": 6})


def test_more_features_kept_than_there_are_is_a_broken_export(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="top_k"):
        inspect(export(tmp_path, "topk", top_k=65))


def test_anthropics_standard_class_always_normalised(tmp_path: Path) -> None:
    info = inspect(export(tmp_path, "standard_anthropic"))
    assert info.get("normalize_activations") == "constant_norm_rescale"
