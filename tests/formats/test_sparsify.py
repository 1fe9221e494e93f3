"""sparsify: what SparseCoder computes, today and in its first months."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saes.converter import convert, inspect, load
from saes.errors import BadFact, BrokenFile, SaeError, UnsupportedArchitecture
from saes.formats import FolderSource, by_slug
from tests.formats.cuts import assert_cut_is_broken
from tests.formats.sparse_coders import (
    CFG,
    D_IN,
    D_SAE,
    RUN,
    SKIP,
    VARIANTS,
    WHERE,
    K,
    assert_is,
    some,
    state,
    write,
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_computes_what_sparsify_computes(variant: str, tmp_path: Path) -> None:
    s, cfg, architecture, centred = VARIANTS[variant]
    root = write(tmp_path / "in", s, **cfg)
    info = inspect(root, WHERE)
    assert (info.get("architecture"), info.get("apply_b_dec_to_input")) == (architecture, centred)
    assert (info.get("d_in"), info.get("d_sae"), info.get("d_out")) == (D_IN, D_SAE, D_IN)
    assert (info.get("k"), info.get("dtype")) == (K, "float32")
    assert not info.missing
    assert_is(s, root, **cfg)


def test_without_folding_every_tensor_keeps_its_bits(tmp_path: Path) -> None:
    s = {key: it.bfloat16() for key, it in state(**SKIP).items()}
    root = write(tmp_path, s, transcode=True, skip_connection=True)
    tensors = load(root, WHERE).tensors
    assert {it.dtype for it in tensors.values()} == {"BF16"}
    assert np.array_equal(tensors["W_enc"].all(), s["encoder.weight"].double().numpy().T)
    for ours, theirs in {"W_dec": "W_dec", "b_enc": "encoder.bias", "W_skip": "W_skip"}.items():
        assert np.array_equal(tensors[ours].all(), s[theirs].double().numpy())


def test_a_square_w_dec_is_not_turned(tmp_path: Path) -> None:
    s = {key: it[:D_IN].clone() for key, it in state().items()}
    root = write(tmp_path / "in", s, expansion_factor=1)
    assert_is(s, root, expansion_factor=1)
    assert np.array_equal(load(root, WHERE).tensors["W_dec"].all(), s["W_dec"].numpy())


def test_decoder_weight_of_older_files_is_turned(tmp_path: Path) -> None:
    s = state()
    old = {key: it for key, it in s.items() if key != "W_dec"}
    assert_is(s, write(tmp_path / "in", {**old, "decoder.weight": s["W_dec"].T.contiguous()}))


def test_transcoders_announced_by_their_run_alone_subtract_b_dec(tmp_path: Path) -> None:
    run = {**RUN, "transcode": True}
    root = write(tmp_path / "in", run=run, transcode=None)
    info = inspect(root, WHERE)
    assert info.get("architecture") == "topk_transcoder"
    assert info.get("apply_b_dec_to_input") is False  # it has gone into b_enc
    assert_is(state(), root)
    assert inspect(write(tmp_path / "new", run=run), WHERE).get("architecture") == "topk"


def test_transcode_null_says_as_little_as_no_transcode(tmp_path: Path) -> None:
    root = write(tmp_path / "in", run={**RUN, "transcode": True})
    cfg = root / WHERE / "cfg.json"
    cfg.write_text(json.dumps({**CFG, "transcode": None, "multi_topk": None, "signed": None}))
    assert inspect(root, WHERE).get("architecture") == "topk_transcoder"
    assert_is(state(), root)


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("normalize_activations", "layer_norm"), ("apply_b_dec_to_input", True), ("k", D_SAE + 1),
        ("norm_scaling_factor", 2.0), ("generation", 1), ("orientation", "d_in,d_sae"),
        ("architecture", "topk"),
    ],
)  # fmt: skip
def test_what_no_transcoder_can_be_is_not_stated_of_it(
    fact: str, value: Any, tmp_path: Path
) -> None:
    write(tmp_path, transcode=True)
    with pytest.raises(BadFact, match=f"{fact}|topk_transcoder"):
        inspect(tmp_path, WHERE, given={fact: value})
    harmless = {"normalize_activations": "none", "apply_b_dec_to_input": False, "k": 3}
    done = convert(tmp_path, tmp_path / "out", "mistudio", WHERE, facts=harmless)
    assert done.certificate is not None
    assert done.certificate.passed


def test_groupmax_is_recognised_and_kept(tmp_path: Path) -> None:
    write(tmp_path, activation="groupmax")
    info = inspect(tmp_path, WHERE)
    assert (info.get("architecture"), info.get("d_sae"), info.get("k")) == ("groupmax", D_SAE, K)
    with pytest.raises(UnsupportedArchitecture, match="largest feature of each group"):
        load(tmp_path, WHERE)
    with pytest.raises(UnsupportedArchitecture):
        by_slug("sparsify").reference(FolderSource(tmp_path), WHERE, {})


def test_a_k_that_no_file_tells_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, k=None)
    assert [it.name for it in inspect(tmp_path, WHERE).missing] == ["k"]
    assert inspect(tmp_path, WHERE, given={"k": 4}).get("k") == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("k", 0), ("k", 65), ("k", "8"), ("k", 1e99), ("d_in", 17), ("num_latents", 63),
        ("num_latents", -1), ("expansion_factor", 5), ("activation", "relu"), ("activation", 3),
        ("transcode", "yes"), ("skip_connection", 1), ("signed", True), ("signed", "no"),
    ],
)  # fmt: skip
def test_hostile_values_of_cfg_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match=r"cfg\.json"):
        inspect(write(tmp_path, **{key: value}), WHERE)


@pytest.mark.parametrize("name", state())
def test_a_missing_tensor_is_refused(name: str, tmp_path: Path) -> None:
    kept = {key: it for key, it in state().items() if key != name}
    with pytest.raises(SaeError) as caught:
        inspect(write(tmp_path, kept), WHERE)
    assert caught.value.code == ("unknown_format" if name == "encoder.weight" else "broken_file")


def test_an_unknown_tensor_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="stranger"):
        inspect(write(tmp_path, state(stranger=some(3))), WHERE)


def test_skip_and_its_tensor_come_together_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="W_skip"):
        inspect(write(tmp_path, state(**SKIP), transcode=True), WHERE)
    with pytest.raises(BrokenFile, match="W_skip"):
        inspect(write(tmp_path, skip_connection=True, transcode=True), WHERE)


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    weights = write(tmp_path) / WHERE / "sae.safetensors"
    assert_cut_is_broken(weights, lambda: inspect(tmp_path, WHERE))
