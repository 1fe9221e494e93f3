"""Gemma Scope 1: what only names tell, and what they cannot."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saes.converter import convert, inspect, load
from saes.errors import BadFact, BrokenFile, NeedsFacts, UnknownFormat
from saes.formats import by_slug
from saes.formats.base import Origin, Tree
from tests.fixtures import tensors
from tests.formats.cuts import assert_cut_is_broken

LAYER = "layer_12/width_16k/average_l0_41"
EMBEDDING = "embedding/width_4k/average_l0_6"


def write_npz(root: Path, where: str = LAYER, **changes: Any) -> Path:
    made: dict[str, Any] = {**tensors("jumprelu"), **changes}
    (root / where).mkdir(parents=True)
    np.savez(root / where / "params.npz", **made)
    return root


@pytest.mark.parametrize(
    ("site", "hook", "reshape", "kind"),
    [
        ("res", "blocks.12.hook_resid_post", "none", "residual"),
        ("mlp", "blocks.12.hook_mlp_out", "none", "mlp"),
        ("att", "blocks.12.attn.hook_z", "hook_z", "attention"),
        ("transcoders", "blocks.12.ln2.hook_normalized", "none", "transcoder"),
    ],
)
def test_the_repository_tells_the_site(
    site: str, hook: str, reshape: str, kind: str, tmp_path: Path
) -> None:
    info = inspect(write_npz(tmp_path), repo_id=f"google/gemma-scope-9b-pt-{site}")
    assert (info.get("hook_name"), info.get("reshape_activations")) == (hook, reshape)
    assert (info.get("hook_type"), info.get("model_name")) == (kind, "gemma-2-9b")
    assert info.facts["model_name"].origin == Origin.CATALOGUE
    assert info.get("architecture") == (
        "jumprelu_transcoder" if kind == "transcoder" else "jumprelu"
    )


def test_res_inside_another_word_is_not_the_site(tmp_path: Path) -> None:
    info = inspect(write_npz(tmp_path), repo_id="research-group/gemma-scope-2b-pt-mlp")
    assert info.get("hook_type") == "mlp"


@pytest.mark.parametrize("repo", [None, "someone/my-mirror"])
def test_without_the_repository_name_the_architecture_is_asked_for(
    repo: str | None, tmp_path: Path
) -> None:
    write_npz(tmp_path / "in")
    assert [fact.name for fact in inspect(tmp_path / "in", repo_id=repo).missing] == [
        "architecture"
    ]
    with pytest.raises(NeedsFacts):
        convert(tmp_path / "in", tmp_path / "out", repo_id=repo)
    done = convert(tmp_path / "in", tmp_path / "out", facts={"architecture": "jumprelu_transcoder"})
    assert done.info.get("hook_name") == "blocks.12.ln2.hook_normalized"


def test_dimensions_come_from_the_headers_not_from_names(tmp_path: Path) -> None:
    info = inspect(write_npz(tmp_path), repo_id="google/gemma-scope-2b-pt-res")
    assert (info.get("d_in"), info.get("d_sae"), info.get("dtype")) == (16, 64, "float32")
    assert info.get("width") == "16k"


def test_embeddings_were_scaled_in_training(tmp_path: Path) -> None:
    source = write_npz(tmp_path / "in", EMBEDDING)
    done = convert(source, tmp_path / "out", repo_id="google/gemma-scope-2b-pt-res")
    assert done.certificate is not None
    assert done.certificate.passed
    assert (done.info.get("hook_name"), done.info.get("layer")) == ("hook_embed", 0)
    folded = load(tmp_path / "out").tensors
    assert np.array_equal(folded["W_enc"].all(), tensors("jumprelu")["W_enc"] / 4)
    assert np.array_equal(folded["W_dec"].all(), tensors("jumprelu")["W_dec"] * 4)


def test_lower_case_names_and_fortran_order_are_read(tmp_path: Path) -> None:
    made = tensors("jumprelu")
    folder = tmp_path / "in" / LAYER
    folder.mkdir(parents=True)
    encoder, decoder = made.pop("W_enc"), made.pop("W_dec")
    np.savez(folder / "params.npz", w_enc=np.asfortranarray(encoder), w_dec=decoder, **made)
    done = convert(tmp_path / "in", tmp_path / "out", repo_id="google/gemma-scope-2b-pt-res")
    assert done.certificate is not None
    assert done.certificate.passed
    assert np.array_equal(load(tmp_path / "out").tensors["W_enc"].all(), encoder)


def test_names_tell_the_layer_of_embeddings(tmp_path: Path) -> None:
    hints = by_slug("gemma_scope_1").hints(Tree([], "google/gemma-scope-2b-pt-res"), EMBEDDING)
    assert (hints["layer"].value, hints["hook_type"].value) == (0, "embedding")


@pytest.mark.parametrize("site", ["res", "transcoders", ""])
def test_what_writes_wider_than_it_reads_is_broken(site: str, tmp_path: Path) -> None:
    write_npz(tmp_path, **tensors("jumprelu_transcoder", d_out=12))
    with pytest.raises(BrokenFile, match="W_dec"):
        inspect(tmp_path, repo_id=f"google/gemma-scope-2b-pt-{site}" if site else None)


@pytest.mark.parametrize(
    ("where", "site", "stated"),
    [
        (LAYER, "res", {"k": 5}),
        (LAYER, "res", {"norm_scaling_factor": 2}),
        (LAYER, "res", {"generation": 2}),
        (LAYER, "res", {"architecture": "jumprelu_skip_transcoder"}),
        (LAYER, "transcoders", {"apply_b_dec_to_input": True}),
        (LAYER, "transcoders", {"normalize_activations": "layer_norm"}),
        (EMBEDDING, "res", {"apply_b_dec_to_input": True}),
        (EMBEDDING, "res", {"normalize_activations": "layer_norm"}),
    ],
)
def test_a_fact_that_cannot_be_is_refused_by_name(
    where: str, site: str, stated: dict[str, Any], tmp_path: Path
) -> None:
    write_npz(tmp_path, where)
    with pytest.raises(BadFact, match=next(iter(stated))):
        inspect(tmp_path, repo_id=f"google/gemma-scope-2b-pt-{site}", given=stated)


@pytest.mark.parametrize(
    "stated", [{"apply_b_dec_to_input": True}, {"normalize_activations": "layer_norm"}]
)
def test_other_facts_are_followed(stated: dict[str, Any], tmp_path: Path) -> None:
    repo = "google/gemma-scope-2b-pt-res"
    done = convert(write_npz(tmp_path / "in"), tmp_path / "out", repo_id=repo, facts=stated)
    assert done.certificate is not None
    assert done.certificate.passed


@pytest.mark.parametrize("name", ["b_enc", "threshold", "W_dec"])
def test_a_missing_array_is_broken_not_unknown(name: str, tmp_path: Path) -> None:
    made = tensors("jumprelu")
    del made[name]
    (tmp_path / LAYER).mkdir(parents=True)
    np.savez(tmp_path / LAYER / "params.npz", **made)
    with pytest.raises(BrokenFile, match=name):
        inspect(tmp_path)


def test_an_unknown_array_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="surprise"):
        inspect(write_npz(tmp_path, surprise=np.ones(3)))


def test_a_renamed_file_is_known_by_its_arrays(tmp_path: Path) -> None:
    made = tensors("jumprelu")
    np.savez(tmp_path / "mine.npz", **made)
    info = inspect(tmp_path / "mine.npz")
    assert (info.format, info.where) == ("gemma_scope_1", "mine.npz")
    assert [fact.name for fact in info.missing] == ["architecture"]
    np.savez(tmp_path / "other.npz", x=made["W_enc"])
    with pytest.raises(UnknownFormat):
        inspect(tmp_path / "other.npz")


def test_a_copied_embedding_sae_is_folded_once_its_hook_is_stated(tmp_path: Path) -> None:
    source = write_npz(tmp_path / "in", "copied")
    facts = {"architecture": "jumprelu", "hook_name": "hook_embed"}
    done = convert(source, tmp_path / "out", facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed
    assert np.array_equal(
        load(tmp_path / "out").tensors["W_enc"].all(), tensors("jumprelu")["W_enc"] / 4
    )


def test_embeddings_are_folded_with_the_bits_of_float32_arithmetic(tmp_path: Path) -> None:
    """As SAELens divides and multiplies: sqrt(d_in) itself is rounded to float32."""
    made = tensors("jumprelu", d_in=14)
    root = np.float32(14**0.5)
    folded = load(write_npz(tmp_path, EMBEDDING, **made)).tensors
    assert np.array_equal(folded["W_enc"].all(), made["W_enc"] / root)
    assert np.array_equal(folded["W_dec"].all(), made["W_dec"] * root)


def test_what_the_user_states_outranks_the_repository(tmp_path: Path) -> None:
    write_npz(tmp_path)
    repo = "google/gemma-scope-2b-pt-transcoders"
    info = inspect(tmp_path, repo_id=repo, given={"architecture": "jumprelu"})
    assert (info.get("architecture"), info.get("hook_name")) == ("jumprelu", None)
    with pytest.raises(BadFact, match="architecture"):
        inspect(tmp_path, given={"architecture": "standard"})


def test_a_scaling_factor_of_ones_is_without_effect(tmp_path: Path) -> None:
    ones = np.ones(64, np.float32)
    write_npz(tmp_path / "ones", scaling_factor=ones)
    sae = load(tmp_path / "ones", facts={"architecture": "jumprelu"})
    assert "scaling_factor" not in sae.tensors
    write_npz(tmp_path / "twos", scaling_factor=2 * ones)
    with pytest.raises(BrokenFile, match="scaling_factor"):
        load(tmp_path / "twos", facts={"architecture": "jumprelu"})
    with pytest.raises(BrokenFile, match="scaling_factor"):
        inspect(write_npz(tmp_path / "short", scaling_factor=np.ones(3)))


def test_a_square_sae_is_not_turned(tmp_path: Path) -> None:
    made = tensors("jumprelu", d_in=64)
    sae = load(write_npz(tmp_path, **made), repo_id="google/gemma-scope-2b-pt-res")
    assert np.array_equal(sae.tensors["W_enc"].all(), made["W_enc"])
    assert np.array_equal(sae.tensors["W_dec"].all(), made["W_dec"])


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    path = write_npz(tmp_path) / LAYER / "params.npz"
    assert_cut_is_broken(path, lambda: inspect(tmp_path))
