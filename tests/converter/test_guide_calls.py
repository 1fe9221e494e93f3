"""The guide's two calls, as its reader makes them: training records in miStudio's own words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saes.converter import convert, inspect, mistudio_to_saelens, saelens_to_mistudio
from saes.errors import BadFact, DimensionMismatch, NeedsFacts, SaeError
from saes.formats import FolderSource, by_slug
from saes.formats.mistudio_training import facts_from
from tests.fixtures import Array, write_legacy, write_saelens
from tests.fixtures.mistudio import jumprelu, linear

FIRST = ("decoder_bias", "decoder.bias")
RECORD = {
    "hidden_dim": 16,
    "latent_dim": 64,
    "architecture_type": "standard",
    "normalize_activations": "constant_norm_rescale",
    "l1_alpha": 0.001,
    "top_k_sparsity": None,
}


def checkpoint(folder: Path, made: dict[str, Array], kind: str = "SparseAutoencoder") -> Path:
    return write_legacy(folder, made, architecture=kind)


def given_back(source: Path, out: Path, **record: Any) -> dict[str, Any]:
    """The cfg.json that the guide's call writes."""
    folder = mistudio_to_saelens(source, out, "gpt2", 3, record)
    told: dict[str, Any] = json.loads((folder / "cfg.json").read_text())
    return told


def first_forward(made: dict[str, Array], x: Array, k: int | None) -> tuple[Array, Array]:
    """Generation 1 in torch: normalised, not centred; ReLU, then the largest k; both biases."""
    stored = {name: torch.from_numpy(it).double() for name, it in made.items()}
    scale = 16**0.5 / torch.from_numpy(x).norm(dim=-1, keepdim=True)
    acts = torch.relu(
        torch.from_numpy(x) * scale @ stored["encoder.weight"].T + stored["encoder.bias"]
    )
    if k is not None:
        values, kept = acts.topk(k, dim=-1)
        acts = torch.zeros_like(acts).scatter(-1, kept, values)
    recon = acts @ stored["decoder.weight"].T + stored["decoder.bias"] + stored["decoder_bias"]
    return acts.numpy(), (recon / scale).numpy()


@pytest.mark.parametrize(
    ("record", "k"),
    [
        ({"normalize_activations": "constant_norm_rescale"}, None),
        (RECORD, None),
        ({**RECORD, "top_k_sparsity": 10.0}, 6),
        ({**RECORD, "top_k_sparsity": 0.1}, 1),
        ({"normalize_activations": "anthropic_rescale", "k": 6}, 6),
        ({"normalize_activations": "anthropic_rescale", "top_k": 6}, 6),
        ({**RECORD, "top_k_sparsity": 10.0, "top_k": 6}, 6),
        ({**RECORD, "architecture_type": "topk", "top_k": 6}, 6),
    ],
)
def test_a_checkpoint_of_the_first_generation_computes_what_was_trained(
    record: dict[str, Any], k: int | None, tmp_path: Path
) -> None:
    made = linear(*FIRST)
    cfg = given_back(checkpoint(tmp_path / "in", made), tmp_path / "out", **record)
    assert (cfg["architecture"], cfg.get("k")) == ("topk" if k else "standard", k)
    x = np.random.default_rng(1).standard_normal((8, 16))
    forward = by_slug("saelens").reference(FolderSource(tmp_path / "out"), ".", {})
    acts, recon = first_forward(made, x, k)
    mine = forward.encode(x, lambda count: None)
    assert np.allclose(mine, acts, atol=1e-5)
    assert np.allclose(forward.decode(mine, x, lambda count: None), recon, atol=1e-5)


def test_what_is_no_fact_is_kept_beside_the_sae(tmp_path: Path) -> None:
    record = {**RECORD, "top_k_sparsity": 10.0}
    cfg = given_back(checkpoint(tmp_path / "in", linear(*FIRST)), tmp_path / "out", **record)
    kept = cfg["metadata"]["mistudio"]["source"]["hyperparams"]
    assert kept["l1_alpha"] == 0.001
    assert kept["top_k_sparsity"] == 10.0
    assert "normalize_activations" not in kept


def test_without_a_record_the_normalisation_is_asked_for(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "in", linear(*FIRST))
    with pytest.raises(NeedsFacts, match="normalize_activations"):
        mistudio_to_saelens(source, tmp_path / "out", "gpt2", 6, {"l1_coefficient": 0.001})


def test_the_second_generation_by_its_own_words(tmp_path: Path) -> None:
    record = {"architecture_type": "topk", "top_k": 5, "top_k_sparsity": 50.0}
    topk = checkpoint(tmp_path / "topk", linear("b_pre"), "TopKSAE")
    cfg = given_back(topk, tmp_path / "a", normalize_activations="none", **record)
    assert (cfg["architecture"], cfg["k"], cfg["apply_b_dec_to_input"]) == ("topk", 5, True)
    ignored = {**RECORD, "architecture_type": "standard_saelens", "top_k": 64}
    standard = checkpoint(tmp_path / "standard", linear("decoder_bias"))
    assert given_back(standard, tmp_path / "b", **ignored)["architecture"] == "standard"
    tied = checkpoint(tmp_path / "tied", linear("decoder_bias", tied=True))
    anthropic = {"architecture_type": "standard_anthropic", "normalize_activations": "none"}
    cfg = given_back(tied, tmp_path / "c", **anthropic)
    assert cfg["apply_b_dec_to_input"] is True
    assert cfg["normalize_activations"] == "constant_norm_rescale"


def test_what_its_class_ignored_in_the_record_is_no_fact(tmp_path: Path) -> None:
    record = {**RECORD, "architecture_type": "JumpReLUSAE", "top_k": 0, "generation": 1}
    source = checkpoint(tmp_path / "jumprelu", jumprelu(), "JumpReLUSAE")
    assert given_back(source, tmp_path / "a", **record)["architecture"] == "jumprelu"
    record = {**RECORD, "architecture_type": "transcoder", "output_dim": 12}
    source = checkpoint(tmp_path / "transcoder", linear("decoder.bias", d_out=12), "Transcoder")
    assert given_back(source, tmp_path / "b", **record)["normalize_activations"] == "none"


def test_a_word_tells_a_skip_autoencoder_where_the_header_is_silent(tmp_path: Path) -> None:
    source = write_legacy(tmp_path / "in", linear(*FIRST), "")
    record = {**RECORD, "architecture_type": "Skip", "normalize_activations": "none"}
    assert given_back(source, tmp_path / "out", **record)["architecture"] == "skip_transcoder"


def test_a_word_does_not_take_back_the_top_k_that_the_files_tell(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "in", linear(*FIRST))
    (source / "checkpoint.safetensors").rename(source / "model.safetensors")
    (source / "config.json").write_text(json.dumps({"k": 6}))
    cfg = given_back(source, tmp_path / "out", **RECORD)
    assert (cfg["architecture"], cfg["k"]) == ("topk", 6)


@pytest.mark.parametrize(
    ("record", "error", "named"),
    [
        ({"hidden_dim": 17}, DimensionMismatch, "hidden_dim"),
        ({"latent_dim": 65}, DimensionMismatch, "latent_dim"),
        ({"latent_dim": "64"}, BadFact, "latent_dim"),
        ({"architecture_type": "gated"}, BadFact, "architecture_type"),
        ({"architecture_type": ["skip"]}, BadFact, "architecture_type"),
        ({"architecture_type": "skip"}, BadFact, "architecture"),
        ({"architecture_type": "transcoder"}, BadFact, "architecture"),
        ({"architecture_type": "jumprelu"}, BadFact, "architecture"),
        ({"architecture_type": "standard_saelens"}, BadFact, "generation"),
        ({"normalize_activations": "sometimes"}, BadFact, "normalize_activations"),
        ({"top_k_sparsity": 0}, BadFact, "top_k_sparsity"),
        ({"top_k_sparsity": 101}, BadFact, "top_k_sparsity"),
        ({"top_k_sparsity": "10"}, BadFact, "top_k_sparsity"),
        ({"top_k_sparsity": 10.0, "top_k": 7}, BadFact, "top_k"),
        ({"top_k": 65}, BadFact, "k"),
        ({"k": 2.5}, BadFact, "k"),
        ({"k": 6, "top_k_sparsity": 50.0}, BadFact, "k should be 32"),
    ],
)
def test_a_record_that_contradicts_the_checkpoint_is_refused(
    record: dict[str, Any], error: type[SaeError], named: str, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "in", linear(*FIRST))
    with pytest.raises(error, match=named):
        given_back(source, tmp_path / "out", **{**RECORD, **record})
    assert not list((tmp_path / "out").glob("*"))


def test_the_second_generation_s_classes_are_not_taken_for_each_other(tmp_path: Path) -> None:
    for made, kind, word in (
        (linear("decoder_bias"), "SparseAutoencoder", "topk"),
        (linear("b_pre"), "TopKSAE", "standard"),
    ):
        source = checkpoint(tmp_path / kind, made, kind)
        record = {**RECORD, "architecture_type": word, "top_k": 5}
        with pytest.raises(BadFact, match="architecture"):
            given_back(source, tmp_path / "out", **record)


def test_there_and_back(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", "topk")
    path, metadata = saelens_to_mistudio(source, tmp_path / "native")
    assert path.name == "checkpoint.safetensors"
    assert metadata["facts"]["architecture"]["value"] == "topk"
    cfg = given_back(tmp_path / "native", tmp_path / "out", architecture_type="topk", top_k=6)
    assert (cfg["architecture"], cfg["metadata"]["model_name"]) == ("topk", "gpt2")


def test_the_native_form_knows_what_was_trained(tmp_path: Path) -> None:
    convert(write_saelens(tmp_path / "in"), tmp_path / "native", "mistudio")
    words = {"architecture_type": "standard_saelens", "l1_coefficient": 0.001}
    assert given_back(tmp_path / "native", tmp_path / "out", **words)["architecture"] == "standard"
    with pytest.raises(BadFact, match="architecture"):
        given_back(tmp_path / "native", tmp_path / "k", top_k=6, architecture_type="topk")


def test_other_formats_have_no_words_of_mistudio(tmp_path: Path) -> None:
    info = inspect(write_saelens(tmp_path))
    assert facts_from({"top_k": 6, "hidden_dim": 7, "layer": "3"}, info) == {"layer": 3}
