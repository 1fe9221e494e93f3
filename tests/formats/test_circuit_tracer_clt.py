"""One layer of circuit-tracer's cross-layer transcoders: described and kept."""

from pathlib import Path
from typing import Any

import pytest

from saes.converter import convert, inspect, load
from saes.errors import (
    BadFact,
    BrokenFile,
    CannotRepresent,
    NotThisFormat,
    UnsupportedArchitecture,
)
from saes.formats import FolderSource, by_slug, find_saes
from tests.fixtures.circuit_tracer import (
    cross,
    some,
)
from tests.formats.cuts import assert_cut_is_broken


@pytest.mark.parametrize("place", [".", "small"])
def test_a_layer_of_a_cross_layer_transcoder_is_described(place: str, tmp_path: Path) -> None:
    cross(tmp_path / place, 2, threshold_2=some(64))
    cross(tmp_path / place, 0)
    where = "2" if place == "." else f"{place}/2"
    assert where in [it.where for it in find_saes(FolderSource(tmp_path).tree)]
    info = inspect(tmp_path, where)
    assert (info.format, info.get("architecture")) == ("circuit_tracer_clt", "clt")
    assert [info.get(it) for it in ("d_in", "d_sae", "d_out", "layer")] == [16, 64, 16, 2]
    assert (info.get("hook_name"), info.get("dtype")) == ("blocks.2.hook_resid_mid", "float32")
    prefix = "" if place == "." else f"{place}/"
    bases = ["W_enc_2.safetensors", "W_dec_2.safetensors", "config.yaml"]
    assert info.files == [f"{prefix}{base}" for base in bases]
    assert len(info.tensors) == 5


def test_it_is_kept_and_says_why(tmp_path: Path) -> None:
    cross(tmp_path / "in")
    with pytest.raises(CannotRepresent, match="all layers after it"):
        convert(tmp_path / "in", tmp_path / "out", "mistudio")
    with pytest.raises(UnsupportedArchitecture, match="all layers after it"):
        load(tmp_path / "in")
    with pytest.raises(UnsupportedArchitecture):
        by_slug("circuit_tracer_clt").reference(FolderSource(tmp_path / "in"), "2", {})


def test_a_copied_folder_and_its_files_stand_for_its_only_layer(tmp_path: Path) -> None:
    cross(tmp_path)
    for where in (None, ".", "2", "W_enc_2.safetensors", "W_dec_2.safetensors"):
        assert inspect(tmp_path, where).get("layer") == 2
    with pytest.raises(NotThisFormat):
        by_slug("circuit_tracer_clt").probe(FolderSource(tmp_path), "3", {})


def test_other_tensors_and_shapes_are_refused(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"stranger": some(3)},
        {"threshold_2": some(63)},
        {"threshold_3": some(64)},
        {"decoder": {"W_dec_2": some(63, 4, 16)}},
        {"decoder": {"W_dec_2": some(64, 16)}},
        {"decoder": {"W_dec_3": some(64, 4, 16)}},
    ]
    for number, changes in enumerate(wrong):
        with pytest.raises(BrokenFile):
            inspect(cross(tmp_path / str(number), **changes))


def test_a_decoder_cut_anywhere_is_broken(tmp_path: Path) -> None:
    file = cross(tmp_path) / "W_dec_2.safetensors"
    assert_cut_is_broken(file, lambda: inspect(tmp_path))


def test_a_layer_needs_both_of_its_files() -> None:
    names = ["W_enc_0.safetensors", "W_dec_0.safetensors", "W_enc_1.safetensors"]
    extra = ["x/W_enc_01.safetensors", "x/W_dec_01.safetensors", "W_dec_5.safetensors"]
    assert [it.where for it in find_saes([*names, *extra])] == ["0"]


@pytest.mark.parametrize(
    "given",
    [
        {"k": 3}, {"architecture": "transcoder"}, {"apply_b_dec_to_input": True},
        {"normalize_activations": "layer_norm"}, {"norm_scaling_factor": 2}, {"generation": 1},
    ],
)  # fmt: skip
def test_nothing_is_stated_of_it_that_it_is_not(given: dict[str, Any], tmp_path: Path) -> None:
    cross(tmp_path)
    with pytest.raises(BadFact):
        inspect(tmp_path, "2", given=given)
    told = {"model_name": "gpt2", "apply_b_dec_to_input": False, "normalize_activations": "none"}
    assert inspect(tmp_path, "2", given=told).get("model_name") == "gpt2"
