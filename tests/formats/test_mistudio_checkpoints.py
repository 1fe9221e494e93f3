"""Checkpoints of the older miStudio: five classes, two generations, tied or not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saes.converter import inspect, load
from saes.errors import (
    BadFact,
    BrokenFile,
    NeedsFacts,
    NotThisFormat,
    UnknownFormat,
    UnsupportedArchitecture,
)
from saes.formats import FolderSource, by_slug
from saes.formats.base import Origin
from tests.fixtures import BY_NAME, write_legacy
from tests.fixtures.mistudio import asked, certified, linear, some

JUMPRELU = BY_NAME["mistudio_v1_jumprelu"]


def test_a_jumprelu_checkpoint_does_not_show_its_generation() -> None:
    with pytest.raises(NeedsFacts) as caught:
        load(JUMPRELU.repo, JUMPRELU.where)
    assert [fact.name for fact in caught.value.missing] == ["generation", "normalize_activations"]
    generation, normalisation = caught.value.missing
    assert set(generation.readings) == {"1", "2"}
    assert set(normalisation.readings) == {"constant_norm_rescale", "none"}


@pytest.mark.parametrize("generation", [1, 2])
def test_each_reading_of_a_jumprelu_checkpoint_computes_its_own_truth(generation: int) -> None:
    facts = {"generation": generation, "normalize_activations": "constant_norm_rescale"}
    source = FolderSource(JUMPRELU.repo)
    forward = by_slug("mistudio").reference(source, JUMPRELU.where, facts)
    acts = forward.encode(JUMPRELU.truth["x"].astype(np.float64), lambda count: None)
    own = "acts" if generation == 1 else "alt.other_generation.acts"
    assert np.allclose(acts, JUMPRELU.truth[own], atol=1e-5)
    assert load(JUMPRELU.repo, JUMPRELU.where, facts=facts).info.get("apply_b_dec_to_input") == (
        generation == 2
    )


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_both_generations_of_the_standard_class(prefix: str, tmp_path: Path) -> None:
    first = write_legacy(tmp_path / "1", linear("decoder_bias", "decoder.bias"), prefix)
    second = write_legacy(tmp_path / "2", linear("decoder_bias"), prefix)
    assert asked(first) == asked(second) == ["normalize_activations"]
    assert (
        certified(first, tmp_path / "a", normalize_activations="none").get("apply_b_dec_to_input")
        is False
    )
    assert (
        certified(second, tmp_path / "b", normalize_activations="none").get("apply_b_dec_to_input")
        is True
    )
    made = linear("decoder_bias", "decoder.bias")
    b_dec = load(tmp_path / "a").tensors["b_dec"].all()
    assert np.array_equal(b_dec, made["decoder_bias"] + made["decoder.bias"])


def test_a_tied_checkpoint_does_not_show_its_generation(tmp_path: Path) -> None:
    folder = write_legacy(tmp_path / "in", linear("decoder_bias", tied=True))
    assert asked(folder) == ["generation", "normalize_activations"]
    certified(folder, tmp_path / "out", generation=2, normalize_activations="anthropic_rescale")
    encoder = linear(tied=True)["encoder.weight"]
    assert np.array_equal(load(tmp_path / "out").tensors["W_dec"].all(), encoder)


@pytest.mark.parametrize("tied", [False, True])
def test_jumprelu_tied_or_not(tied: bool, tmp_path: Path) -> None:
    made: dict[str, Any] = {
        "W_enc": some(64, 16),
        "b_enc": some(64),
        "b_dec": some(16),
        "activation.log_threshold": some(64),
    }
    if not tied:
        made["W_dec"] = some(16, 64)
    folder = write_legacy(
        tmp_path / "in", made, architecture="JumpReLUSAE", layer_idx="4", hook_type="mlp"
    )
    info = certified(folder, tmp_path / "out", generation=2, normalize_activations="none")
    assert (info.get("layer"), info.get("hook_type")) == (4, "mlp")


def test_topk_asks_for_k_and_a_standard_one_may_be_topk(tmp_path: Path) -> None:
    topk = write_legacy(tmp_path / "topk", linear("b_pre"))
    assert asked(topk) == ["normalize_activations", "k"]
    certified(topk, tmp_path / "a", normalize_activations="none", k=6)
    standard = write_legacy(tmp_path / "standard", linear("decoder_bias", "decoder.bias"))
    assert "top-k" in inspect(standard).get("warning")
    info = certified(
        standard, tmp_path / "b", normalize_activations="none", architecture="topk", k=6
    )
    assert info.get("architecture") == "topk"


@pytest.mark.parametrize("biases", [("decoder.bias",), ("decoder.bias", "b_enc_center")])
def test_transcoders_of_both_generations(biases: tuple[str, ...], tmp_path: Path) -> None:
    folder = write_legacy(tmp_path / "in", linear(*biases, d_out=12), architecture="Transcoder")
    info = certified(folder, tmp_path / "out")
    assert (info.get("architecture"), info.get("d_out")) == ("transcoder", 12)
    assert info.get("generation") == len(biases)


@pytest.mark.parametrize("biases", [("decoder_bias", "decoder.bias"), ("decoder_bias",)])
def test_skip_autoencoders_become_skip_transcoders(biases: tuple[str, ...], tmp_path: Path) -> None:
    folder = write_legacy(tmp_path / "in", linear(*biases), architecture="SkipAutoencoder")
    certified(folder, tmp_path / "out", normalize_activations="none")
    assert np.array_equal(load(tmp_path / "out").tensors["W_skip"].all(), np.eye(16))
    with pytest.raises(UnsupportedArchitecture):
        load(folder, facts={"normalize_activations": "constant_norm_rescale"})


def test_a_statement_that_the_tensors_contradict_is_refused(tmp_path: Path) -> None:
    folder = write_legacy(tmp_path, linear("decoder_bias", "decoder.bias"))
    for facts in ({"generation": 2}, {"architecture": "gated"}):
        with pytest.raises(BadFact):
            inspect(folder, given=facts)


def test_unknown_tensors_are_refused_and_foreign_ones_are_not_ours(tmp_path: Path) -> None:
    strange = write_legacy(tmp_path / "strange", linear("decoder_bias") | {"surprise": some(3)})
    with pytest.raises(BrokenFile, match="surprise"):
        inspect(strange)
    foreign = write_legacy(tmp_path / "foreign", {"wte.weight": some(4, 4)}, "")
    with pytest.raises(UnknownFormat) as caught:
        inspect(foreign)
    assert "miStudio" in caught.value.refusals


# --- where they were trained ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "hook"),
    [
        ("residual", "blocks.7.hook_resid_post"),
        ("mlp", "blocks.7.hook_mlp_out"),
        ("attention", "blocks.7.hook_attn_out"),
    ],
)
@pytest.mark.parametrize("told", ["header", "folder"])
def test_layer_and_site_name_the_hook(site: str, hook: str, told: str, tmp_path: Path) -> None:
    header = {"layer_idx": "7", "hook_type": site} if told == "header" else {}
    place = "in" if told == "header" else f"layer_7_{site}"
    write_legacy(tmp_path / place, linear("decoder_bias"), **header)
    info = inspect(tmp_path, place)
    assert (info.get("layer"), info.get("hook_type"), info.get("hook_name")) == (7, site, hook)
    assert info.facts["hook_name"].origin == Origin.CATALOGUE


def test_a_layer_without_a_site_names_no_hook(tmp_path: Path) -> None:
    write_legacy(tmp_path / "layer_7", linear("decoder_bias"))
    assert inspect(tmp_path, "layer_7").get("hook_name") is None


@pytest.mark.parametrize("biases", [("decoder.bias",), ("decoder_bias", "decoder.bias")])
def test_the_first_generation_trained_transcoders_and_skips_with_top_k(
    biases: tuple[str, ...], tmp_path: Path
) -> None:
    skips = len(biases) == 2
    architecture = "topk_skip_transcoder" if skips else "topk_transcoder"
    kind = "SkipAutoencoder" if skips else "Transcoder"
    folder = write_legacy(tmp_path / "in", linear(*biases), architecture=kind)
    assert architecture in inspect(folder).get("warning")
    told = {"normalize_activations": "none"} if skips else {}
    info = certified(folder, tmp_path / "out", architecture=architecture, k=6, **told)
    assert (info.get("architecture"), info.get("k")) == (architecture, 6)
    with pytest.raises(BadFact, match="k cannot be"):
        inspect(folder, given={"architecture": architecture, "k": 65})


def test_a_transcoder_never_normalised(tmp_path: Path) -> None:
    folder = write_legacy(tmp_path, linear("decoder.bias"))
    with pytest.raises(BadFact, match="normalize_activations is none"):
        inspect(folder, given={"normalize_activations": "layer_norm"})


def test_a_renamed_checkpoint_is_known_by_its_tensors(tmp_path: Path) -> None:
    write_legacy(tmp_path, linear("decoder_bias", "decoder.bias"), "")
    (tmp_path / "checkpoint.safetensors").rename(tmp_path / "mine.safetensors")
    assert inspect(tmp_path / "mine.safetensors").format == "mistudio"
    assert inspect(tmp_path, ".").get("generation") == 1


def test_two_linear_layers_in_a_file_of_any_name_are_not_ours(tmp_path: Path) -> None:
    write_legacy(tmp_path, linear("decoder.bias"), "")
    (tmp_path / "checkpoint.safetensors").rename(tmp_path / "mine.safetensors")
    with pytest.raises(NotThisFormat):
        by_slug("mistudio").probe(FolderSource(tmp_path), "mine.safetensors", {})


# --- what the older converter made of SAELens files -----------------------------------------------


def converted(folder: Path, made: dict[str, Any], **changes: Any) -> Path:
    """With the metadata.json that it left."""
    write_legacy(folder, made)
    told = {
        "format": "mistudio",
        "original_format": "community_standard",
        "model_name": "gpt2-small",
        "layer": 3,
        "d_in": 16,
        "d_sae": 64,
        "architecture": "standard",
        "activation_fn": "relu",
    }
    (folder / "metadata.json").write_text(json.dumps({**told, **changes}))
    return folder


BOTH = ("decoder_bias", "decoder.bias")


@pytest.mark.parametrize("centred", [True, False])
def test_a_converted_checkpoint_does_not_tell_of_centring(centred: bool, tmp_path: Path) -> None:
    folder = converted(tmp_path / "in", linear(*BOTH))
    assert asked(folder) == ["apply_b_dec_to_input", "normalize_activations"]
    told = {"apply_b_dec_to_input": centred, "normalize_activations": "none"}
    info = certified(folder, tmp_path / "out", **told)
    assert (info.get("apply_b_dec_to_input"), info.get("generation")) == (centred, None)
    assert (info.get("model_name"), info.get("layer")) == ("gpt2-small", 3)
    assert load(tmp_path / "out").info.get("apply_b_dec_to_input") is centred


def test_a_converted_jumprelu_has_no_generation_either(tmp_path: Path) -> None:
    made = {"W_enc": some(64, 16), "W_dec": some(16, 64), "b_enc": some(64), "b_dec": some(16)}
    made["activation.log_threshold"] = some(64)
    folder = converted(tmp_path / "in", made, architecture="jumprelu", activation_fn="jumprelu")
    assert asked(folder) == ["apply_b_dec_to_input", "normalize_activations"]
    told = {"apply_b_dec_to_input": "true", "normalize_activations": "none"}
    assert certified(folder, tmp_path / "out", **told).get("architecture") == "jumprelu"


def test_a_converted_top_k_lost_its_k(tmp_path: Path) -> None:
    folder = converted(tmp_path / "in", linear(*BOTH), activation_fn="topk")
    assert asked(folder)[-1] == "k"
    told = {"apply_b_dec_to_input": True, "normalize_activations": "none", "k": 4}
    assert certified(folder, tmp_path / "out", **told).get("architecture") == "topk"


def test_what_the_converter_dropped_is_not_made_up(tmp_path: Path) -> None:
    lost = linear(*BOTH)
    del lost["encoder.bias"]  # a gated SAE has none, and its own biases were not kept
    with pytest.raises(BrokenFile, match="lacks"):
        inspect(converted(tmp_path / "gated", lost, architecture="gated"))
    with pytest.raises(UnsupportedArchitecture, match="gated"):
        inspect(converted(tmp_path / "named", linear(*BOTH), architecture="gated"))
    with pytest.raises(BrokenFile, match="d_sae is 65"):
        inspect(converted(tmp_path / "width", linear(*BOTH), d_sae=65))
    with pytest.raises(BrokenFile, match="jumprelu"):
        inspect(converted(tmp_path / "class", linear(*BOTH), architecture="jumprelu"))
