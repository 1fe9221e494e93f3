"""SAELens: strict as it is, and never silently something else than the file says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from saes.converter import convert, inspect, load
from saes.errors import (
    BadFact,
    BrokenFile,
    CannotRepresent,
    NeedsFacts,
    SaeError,
    UnsupportedArchitecture,
)
from saes.formats.architectures import PLAIN
from saes.formats.base import Origin
from saes.formats.saelens_config import ARCHITECTURES
from tests.fixtures import tensors, write_saelens
from tests.formats.saelens_folders import refused, write_not_plain

V5: dict[str, Any] = {"metadata": None, "architecture": "standard"}
ONES = np.ones(64, np.float32)
OWN_PLAIN = [it for it in ARCHITECTURES if it in PLAIN]


@pytest.mark.parametrize("to", ["saelens", "mistudio"])
@pytest.mark.parametrize("architecture", OWN_PLAIN)
def test_every_plain_architecture_converts_exactly(
    architecture: str, to: str, tmp_path: Path
) -> None:
    d_out = 12 if "transcoder" in architecture else 0
    source = write_saelens(tmp_path / "in", architecture, d_out)
    done = convert(source, tmp_path / "out", to=to)
    assert done.certificate is not None
    assert done.certificate.passed
    for name, array in tensors(architecture, d_out=d_out).items():
        assert np.array_equal(load(tmp_path / "out").tensors[name].all(), array)


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
def test_rescaling_by_decoder_norm_survives(architecture: str, tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", architecture, rescale_acts_by_decoder_norm=True)
    done = convert(source, tmp_path / "out")
    assert done.info.get("rescale_acts_by_decoder_norm") is True


@pytest.mark.parametrize("architecture", ["temporal", "matching_pursuit"])
def test_what_is_no_plain_dictionary_stays_with_saelens(architecture: str, tmp_path: Path) -> None:
    source = write_not_plain(tmp_path / "in", architecture)
    with pytest.raises(CannotRepresent, match=architecture):
        convert(source, tmp_path / "native", to="mistudio")
    done = convert(source, tmp_path / "out", to="saelens")
    assert done.certificate is not None
    assert done.certificate.passed
    before, after = inspect(source), inspect(tmp_path / "out")
    assert {name: after.get(name) for name in before.facts} == {
        name: fact.value for name, fact in before.facts.items()
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attn_layers.0.k_ctx.bias": None}, "lacks the tensor attn_layers.0.k_ctx.bias"),
        ({"W_enc": ONES}, "unknown tensor W_enc"),
        ({"tied_weights": False}, "lacks the tensor W_enc"),
        ({"n_attn_layers": 2}, r"lacks the tensor attn_layers\.1"),
        ({"n_attn_layers": 10**9}, "n_attn_layers should be"),
        ({"sae_diff_type": "gelu"}, "sae_diff_type should be"),
        ({"normalize_activations": "covariance_whitening"}, "normalize_activations should be"),
    ],
)
def test_a_temporal_sae_is_read_as_strictly(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    refused(write_not_plain(tmp_path, "temporal", **changes), BrokenFile, says)


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    refused(write_saelens(tmp_path, "quantum"), UnsupportedArchitecture, "quantum")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"extra": ONES}, "unknown tensor extra"),
        ({"threshold": ONES}, "unknown tensor threshold"),
        ({"b_enc": None}, "lacks the tensor b_enc"),
        ({"d_sae": 65}, r"it should be \[65"),
        ({"d_in": 17}, "should be"),
        ({"normalize_activations": "sideways"}, "normalize_activations"),
    ],
)
def test_tensors_and_config_must_agree(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    refused(write_saelens(tmp_path, **changes), BrokenFile, says)


def test_a_transcoder_that_centres_is_broken(tmp_path: Path) -> None:
    source = write_saelens(tmp_path, "transcoder", apply_b_dec_to_input=True)
    refused(source, BrokenFile, "apply_b_dec_to_input")


def test_null_normalisation_is_broken_in_version_6(tmp_path: Path) -> None:
    source = write_saelens(tmp_path)
    cfg = json.loads((source / "cfg.json").read_text()) | {"normalize_activations": None}
    (source / "cfg.json").write_text(json.dumps(cfg))
    refused(source, BrokenFile, "normalize_activations")


def test_topk_without_k_asks_for_k_and_takes_it(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", "topk", k=None)
    assert [fact.name for fact in inspect(source).missing] == ["k"]
    with pytest.raises(NeedsFacts):
        convert(source, tmp_path / "out")
    done = convert(source, tmp_path / "out", facts={"k": "5"})
    assert done.info.facts["k"].origin == Origin.USER
    assert done.info.get("k") == 5


def test_a_version_6_file_without_architecture_asks(tmp_path: Path) -> None:
    source = write_saelens(tmp_path, "gated")
    cfg = json.loads((source / "cfg.json").read_text())
    del cfg["architecture"]
    (source / "cfg.json").write_text(json.dumps(cfg))
    for given in ({}, {"k": 5}):
        assert [it.name for it in inspect(source, given=given).missing] == ["architecture"]
    assert load(source, facts={"architecture": "gated"}).info.get("architecture") == "gated"


def test_facts_that_cannot_be_are_refused(tmp_path: Path) -> None:
    source = write_saelens(tmp_path)
    for facts in ({"k": "many"}, {"colour": "red"}, {"layer": -1}, {"norm_scaling_factor": 0}):
        refused(source, BadFact, next(iter(facts)), **facts)


@pytest.mark.parametrize(
    ("architecture", "stated"),
    [
        ("standard", {"k": 5}),
        ("standard", {"architecture": "gated"}),
        ("standard", {"architecture": "transcoder"}),
        ("standard", {"generation": 2}),
        ("transcoder", {"architecture": "standard"}),
        ("transcoder", {"apply_b_dec_to_input": True}),
        ("skip_transcoder", {"apply_b_dec_to_input": True}),
        ("topk", {"k": 65}),
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_a_fact_that_cannot_be_is_refused_by_name(
    architecture: str, stated: dict[str, Any], old: bool, tmp_path: Path
) -> None:
    d_out = 12 if "transcoder" in architecture else 0
    source = write_saelens(tmp_path, architecture, d_out, **({"metadata": None} if old else {}))
    key = next(iter(stated))
    says = key if key != "architecture" else f"no {stated[key]}"
    refused(source, BadFact, says, **stated)


def test_a_k_that_is_too_large_is_broken(tmp_path: Path) -> None:
    refused(write_saelens(tmp_path, "topk", k=65), BrokenFile, "k is 65")


def test_a_key_that_its_architecture_does_not_know_is_no_fact(tmp_path: Path) -> None:
    assert "k" not in inspect(write_saelens(tmp_path, k=5)).facts


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "transcoder", "topk"])
def test_null_says_nothing(architecture: str, old: bool, tmp_path: Path) -> None:
    d_out = 12 if "transcoder" in architecture else 0
    source = write_saelens(tmp_path / "in", architecture, d_out)
    cfg = json.loads((source / "cfg.json").read_text())
    cfg |= {"apply_b_dec_to_input": None, "rescale_acts_by_decoder_norm": None}
    (source / "cfg.json").write_text(json.dumps(cfg | ({"metadata": None} if old else {})))
    done = convert(source, tmp_path / "out")
    assert done.certificate is not None
    assert done.certificate.passed
    assert done.info.get("apply_b_dec_to_input") is (d_out == 0)


# --- before version 6 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"activation_fn_str": "tanh-relu"},
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5, "postact_fn": "Identity"}},
        {"activation_fn": "gelu"},
        {"architecture": "gated", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}},
    ],
)
def test_what_version_6_would_silently_read_as_relu_is_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    source = write_saelens(tmp_path, **{**V5, **changes})
    refused(source, UnsupportedArchitecture, "cannot be converted")


@pytest.mark.parametrize(
    "changes",
    [
        {"activation_fn_str": "topk"},
        {"activation_fn_str": "topk", "activation_fn_kwargs": {}},
        {"architecture": "topk", "activation_fn_kwargs": {}, "k": None},
        {"architecture": "topk", "k": None},
    ],
)
def test_an_old_topk_without_k_asks_for_it(changes: dict[str, Any], tmp_path: Path) -> None:
    source = write_saelens(tmp_path, **{**V5, **changes})
    refused(source, NeedsFacts, "k")
    assert load(source, facts={"k": 7}).info.get("architecture") == "topk"


def test_an_old_topk_takes_the_k_of_its_activation(tmp_path: Path) -> None:
    told = {"architecture": "topk", "activation_fn_kwargs": {"k": 7}, "k": 5}
    assert inspect(write_saelens(tmp_path, **{**V5, **told})).get("k") == 7


def test_old_normalisation_flags_are_words_now(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "true", **V5, normalize_activations=True)
    assert inspect(source).get("normalize_activations") == "expected_average_only_in"
    source = write_saelens(tmp_path / "false", **V5, normalize_activations=False)
    assert inspect(source).get("normalize_activations") == "none"


def test_two_activations_that_contradict_each_other_are_broken(tmp_path: Path) -> None:
    told: dict[str, Any] = {"activation_fn": "relu", "activation_fn_str": "topk"}
    refused(write_saelens(tmp_path, **V5, **told), BrokenFile, "contradicts")


@pytest.mark.parametrize(
    "told", [{"sae_lens_version": "dev"}, {"sae_lens_version": "5"}, {"architecture": None}]
)
def test_without_a_version_that_can_be_read_the_old_rules_hold(
    told: dict[str, Any], tmp_path: Path
) -> None:
    source = write_saelens(tmp_path / "in", metadata={})
    cfg = json.loads((source / "cfg.json").read_text()) | told | {"normalize_activations": None}
    (source / "cfg.json").write_text(json.dumps(cfg))
    done = convert(source, tmp_path / "out")
    assert done.certificate is not None
    assert done.certificate.passed
    assert done.info.get("architecture") == "standard"


def test_a_hook_that_is_no_text_is_broken(tmp_path: Path) -> None:
    refused(write_saelens(tmp_path, **{**V5, "hook_point": 3}), BrokenFile, "hook_name should be")


def test_an_old_hook_z_is_reshaped(tmp_path: Path) -> None:
    source = write_saelens(tmp_path, **V5, hook_name="blocks.5.attn.hook_z")
    info = inspect(source)
    assert (info.get("reshape_activations"), info.get("layer")) == ("hook_z", 5)
    assert info.get("hook_type") == "attention"


def test_null_arguments_are_no_arguments(tmp_path: Path) -> None:
    source = write_saelens(tmp_path, **V5, activation_fn_kwargs=None)
    assert load(source).info.get("architecture") == "standard"


def test_metadata_without_a_version_is_read_by_the_old_rules_but_still_names_the_hook(
    tmp_path: Path,
) -> None:
    told = {"hook_name": "blocks.3.hook_resid_post", "model_name": "gpt2"}
    info = inspect(write_saelens(tmp_path, metadata=told, normalize_activations=True))
    assert info.get("model_name") == "gpt2"
    assert info.get("normalize_activations") == "expected_average_only_in"


def test_a_finetuning_factor_scales_the_rows_of_the_decoder(tmp_path: Path) -> None:
    factor = np.linspace(0.5, 2, 64, dtype=np.float32)
    source = write_saelens(
        tmp_path / "in", **V5, scaling_factor=factor, finetuning_scaling_factor=True
    )
    done = convert(source, tmp_path / "out")
    assert done.certificate is not None
    assert done.certificate.passed
    expected = tensors()["W_dec"] * factor[:, None]
    assert np.array_equal(load(tmp_path / "out").tensors["W_dec"].all(), expected)


def test_a_finetuning_factor_of_ones_is_dropped_and_an_unannounced_one_refused(
    tmp_path: Path,
) -> None:
    assert (
        "scaling_factor"
        not in load(write_saelens(tmp_path / "a", **V5, scaling_factor=ONES)).tensors
    )
    source = write_saelens(tmp_path / "b", **V5, scaling_factor=ONES * 2)
    refused(source, BrokenFile, "finetuning_scaling_factor")


# --- dtypes -------------------------------------------------------------------------------------


def test_a_wider_dtype_may_be_asked_for_and_a_narrower_one_not(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in")
    done = convert(source, tmp_path / "out", facts={"dtype": "float64"})
    assert {array.dtype for array in load_file(done.paths[0]).values()} == {np.dtype("float64")}
    refused(source, SaeError, "lose digits", dtype="float16")


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    source = write_saelens(tmp_path, W_enc=np.ones((16, 64), np.int32))
    refused(source, UnsupportedArchitecture, "I32")
