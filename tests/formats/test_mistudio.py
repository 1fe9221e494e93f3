"""miStudio native: every bit and every fact comes back. Older forms are read rightly."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from saes.converter import convert, inspect, load
from saes.errors import (
    BadFact,
    BrokenFile,
    CannotRepresent,
    NeedsFacts,
    NotThisFormat,
    UnknownFormat,
    UnsupportedArchitecture,
)
from saes.formats import by_slug
from saes.formats.base import Origin
from saes.formats.mistudio import rewrite_metadata
from tests.fixtures import BY_NAME, Array, tensors, write_legacy, write_saelens

GOLDEN = "371c7c4dba180ef0d9bc9b800c196adbb19792b5b082f1314cf565827933d1ed"
JUMPRELU = BY_NAME["mistudio_v1_jumprelu"]
LOG_THRESHOLD = "model.activation.log_threshold"


def some(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def linear(*biases: str, tied: bool = False, d_out: int = 16) -> dict[str, Array]:
    made = {"encoder.weight": some(64, 16), "encoder.bias": some(64) - 1}
    if not tied:
        made["decoder.weight"] = some(d_out, 64)
    return made | {name: some(d_out if name == "decoder.bias" else 16) for name in biases}


def asked(folder: Path) -> list[str]:
    return [fact.name for fact in inspect(folder).missing]


# --- what this project writes -------------------------------------------------------------------


def native(tmp_path: Path, architecture: str = "jumprelu", **changes: Any) -> Path:
    source = write_saelens(tmp_path / "in", architecture, **changes)
    convert(source, tmp_path / "out", provenance={"revision": "abc"})
    return tmp_path / "out"


def test_the_native_names_and_shapes(tmp_path: Path) -> None:
    shapes = {
        name: it.shape
        for name, it in load_file(native(tmp_path) / "checkpoint.safetensors").items()
    }
    assert shapes == {
        "model.encoder.weight": (64, 16),
        "model.encoder.bias": (64,),
        "model.decoder.weight": (16, 64),
        "model.decoder_bias": (16,),
        LOG_THRESHOLD: (64,),
    }


def test_the_logarithm_of_a_threshold_gives_back_every_bit(tmp_path: Path) -> None:
    many = np.concatenate(
        [np.float32(10.0) ** np.linspace(-30, 30, 60, dtype=np.float32), [1e-44, 3e38, 1, 7]]
    )
    stored = load_file(
        native(tmp_path, threshold=many.astype(np.float32)) / "checkpoint.safetensors"
    )
    assert stored[LOG_THRESHOLD].dtype == np.float64
    assert np.array_equal(np.exp(stored[LOG_THRESHOLD]).astype(np.float32), many.astype(np.float32))


@pytest.mark.parametrize("lost", [0.0, -0.0, -1.5, np.nan, np.inf])
def test_a_threshold_that_a_logarithm_would_lose_is_stored_as_it_is(
    lost: float, tmp_path: Path
) -> None:
    threshold = tensors("jumprelu")["threshold"]
    threshold[5] = lost
    source = write_saelens(tmp_path / "in", "jumprelu", threshold=threshold)
    convert(source, tmp_path / "out", certify=False)
    stored = load_file(tmp_path / "out" / "checkpoint.safetensors")
    assert LOG_THRESHOLD not in stored
    assert stored["model.threshold"].tobytes() == threshold.tobytes()
    assert (
        load(tmp_path / "out").tensors["threshold"].block(slice(None)).tobytes()
        == threshold.tobytes()
    )


def test_the_metadata_states_facts_origins_dtypes_and_where_it_came_from(tmp_path: Path) -> None:
    told = json.loads((native(tmp_path) / "metadata.json").read_text())
    assert (told["format"], told["format_version"]) == ("mistudio", 1)
    assert told["facts"]["architecture"] == {"value": "jumprelu", "origin": "file"}
    assert told["tensors"]["threshold"] == {"dtype": "F32", "shape": [64]}
    assert (told["source"]["format"], told["source"]["revision"]) == ("saelens", "abc")


def test_it_converts_to_itself_bit_for_bit(tmp_path: Path) -> None:
    first = native(tmp_path)
    done = convert(first, tmp_path / "again")
    weights = [folder / "checkpoint.safetensors" for folder in (first, tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert done.certificate is not None
    assert done.certificate.max_abs_acts == 0


def test_the_written_checkpoint_is_the_golden_one(tmp_path: Path) -> None:
    """Byte for byte: a change of this form is a change for everyone who keeps such files."""
    made: dict[str, Any] = {
        name: np.arange(array.size, dtype=np.float32).reshape(array.shape)
        for name, array in tensors().items()
    }
    source = write_saelens(tmp_path / "in", **made)
    convert(source, tmp_path / "out", certify=False)
    digest = hashlib.sha256((tmp_path / "out" / "checkpoint.safetensors").read_bytes()).hexdigest()
    assert digest == GOLDEN


def test_an_unknown_tensor_a_newer_version_and_a_missing_fact_are_refused(tmp_path: Path) -> None:
    folder = native(tmp_path)
    told = json.loads((folder / "metadata.json").read_text())
    for wrong, error in (
        ({"format_version": 2}, UnsupportedArchitecture),
        ({"facts": {**told["facts"], "d_sae": {"value": True, "origin": "file"}}}, BrokenFile),
        ({"facts": {**told["facts"], "k": {"value": 1, "origin": "rumour"}}}, BrokenFile),
        ({"facts": {}}, BrokenFile),
    ):
        (folder / "metadata.json").write_text(json.dumps({**told, **wrong}))
        with pytest.raises(error):
            inspect(folder)


def test_only_what_describes_can_be_stated_anew(tmp_path: Path) -> None:
    folder = native(tmp_path)
    rewrite_metadata(folder, {"model_name": "gpt2", "layer": "7"})
    info = inspect(folder)
    assert (info.get("model_name"), info.get("layer")) == ("gpt2", 7)
    assert info.facts["layer"].origin == Origin.USER
    with pytest.raises(CannotRepresent):
        rewrite_metadata(folder, {"apply_b_dec_to_input": False})
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.safetensors",
        "metadata.json",
    ]


def test_a_format_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotRepresent):
        convert(write_saelens(tmp_path / "in"), tmp_path / "out", to="saelens")
    with pytest.raises(UnknownFormat):
        by_slug("excel")


# --- checkpoints of the older miStudio ----------------------------------------------------------


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
    forward = by_slug("mistudio").reference(JUMPRELU.repo, JUMPRELU.where, facts)
    acts = forward.encode(torch.from_numpy(JUMPRELU.truth["x"]).double(), lambda count: None)
    own = "acts" if generation == 1 else "alt.other_generation.acts"
    assert np.allclose(acts.numpy(), JUMPRELU.truth[own], atol=1e-5)
    assert load(JUMPRELU.repo, JUMPRELU.where, facts=facts).info.get("apply_b_dec_to_input") == (
        generation == 2
    )


def certified(folder: Path, out: Path, **facts: Any) -> Any:
    done = convert(folder, out, facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed
    return done.info


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
    assert set(caught.value.refusals) == {"SAELens", "Gemma Scope", "miStudio"}


# --- its exports ----------------------------------------------------------------------------------


def export(folder: Path, architecture: str = "standard", **changes: Any) -> Path:
    told: dict[str, Any] = {
        "metadata": None,
        "apply_b_dec_to_input": False,
        "normalize_activations": "constant_norm_rescale",
        "mistudio_training_id": "train_1",
        "extra_metadata": {},
    }
    return write_saelens(folder, architecture, **{**told, **changes})


def test_a_neuronpedia_export_is_read_by_its_tensors_and_its_normalisation_not_believed() -> None:
    sample = BY_NAME["mistudio_neuronpedia_export_raw"]
    info = inspect(sample.repo)
    assert [fact.name for fact in info.missing] == ["normalize_activations"]
    assert (info.get("model_name"), info.get("hook_name")) == (
        "gpt2-small",
        "blocks.3.hook_resid_post",
    )


def test_the_community_format_tells_that_its_bias_was_lost() -> None:
    sample = BY_NAME["mistudio_v1_community_format"]
    residual = inspect(sample.repo, sample.where)
    assert "decoder.bias" in residual.get("warning")
    mlp = inspect(sample.repo, "community_format/layer_7_mlp")
    assert (mlp.get("layer"), mlp.get("hook_type"), mlp.get("hook_name")) == (7, "mlp", None)


@pytest.mark.parametrize(
    ("architecture", "extra", "centred"),
    [
        ("standard", {"top_k_sparsity": None}, False),
        ("standard_saelens", {}, True),
        ("jumprelu", {"top_k_sparsity": None}, False),
        ("jumprelu", {"top_k": None}, True),
        ("topk", {"top_k": 5}, True),
    ],
)
def test_the_generation_of_a_community_export_decides_centring(
    architecture: str, extra: dict[str, Any], centred: bool, tmp_path: Path
) -> None:
    folder = export(tmp_path / "in", architecture, extra_metadata=extra)
    assert certified(folder, tmp_path / "out").get("apply_b_dec_to_input") is centred


def test_top_k_in_percent_of_the_first_generation(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", extra_metadata={"top_k_sparsity": 10.0})
    info = certified(folder, tmp_path / "out")
    assert (info.get("architecture"), info.get("k")) == ("topk", 6)


def test_an_export_that_shows_no_generation_asks(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", "jumprelu", normalize_activations="anthropic_rescale")
    assert asked(folder) == ["generation"]
    certified(folder, tmp_path / "out", generation="2")


def test_exports_that_lost_what_matters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitecture):
        inspect(export(tmp_path / "skip", "skip"))
    with pytest.raises(BrokenFile, match="b_dec"):
        inspect(export(tmp_path / "topk", "topk", b_dec=None, extra_metadata={"top_k": 5}))


def test_a_plain_saelens_folder_is_not_ours(tmp_path: Path) -> None:
    from saes.formats import FolderSource

    source = FolderSource(write_saelens(tmp_path))
    with pytest.raises(NotThisFormat):
        by_slug("mistudio").probe(source, ".", {})
