"""Crosscoders: recognised by their three axes, described, and never squeezed into an SAE."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from saes.converter import convert, inspect, load
from saes.errors import BrokenFile, CannotRepresent, UnknownFormat, UnsupportedArchitecture
from saes.formats import FolderSource, by_slug, find_saes, identify
from saes.formats.base import Tree
from saes.formats.crosscoder import Crosscoder
from tests.fixtures import BY_NAME
from tests.formats.cuts import assert_cut_is_broken
from tests.formats.torch_files import linear, save, some

HOOK = "blocks.14.hook_resid_pre"
CONFIG = {"d_in": 16, "dict_size": 64, "hook_point": HOOK, "layer": 14, "seq_len": 1024}


def community() -> dict[str, torch.Tensor]:
    return {
        "W_enc": some(2, 16, 64),
        "W_dec": some(64, 2, 16),
        "b_enc": some(64),
        "b_dec": some(2, 16),
    }


def layers(n: int = 3) -> dict[str, torch.Tensor]:
    return {
        "encoder.weight": some(n, 16, 64),
        "encoder.bias": some(64),
        "decoder.weight": some(n, 64, 16),
        "decoder.bias": some(n, 16),
    }


def write(
    folder: Path,
    config: dict[str, Any] | None = None,
    changes: dict[str, torch.Tensor] | None = None,
) -> Path:
    save(folder / "cc_weights.pt", {**community(), **(changes or {})})
    (folder / "cfg.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    return folder


def test_a_crosscoder_is_described(tmp_path: Path) -> None:
    write(tmp_path / HOOK)
    info = inspect(tmp_path)
    assert (info.format, info.where) == ("crosscoder", HOOK)
    assert (info.get("architecture"), info.get("n_sources")) == ("crosscoder", 2)
    assert (info.get("d_in"), info.get("d_sae"), info.get("dtype")) == (16, 64, "float32")
    assert (info.get("hook_name"), info.get("layer")) == (HOOK, 14)
    assert (info.get("hook_type"), info.get("context_size")) == ("residual", 1024)
    assert sorted(info.files) == [f"{HOOK}/cc_weights.pt", f"{HOOK}/cfg.json"]
    assert {spec.name: spec.shape for spec in info.tensors}["W_enc"] == (2, 16, 64)
    assert not info.missing


def test_the_published_sample_is_recognised() -> None:
    sample = BY_NAME["crosscoder_ckkissane"]
    info = inspect(sample.repo, sample.where, sample.repo_id)
    assert (info.format, info.get("architecture")) == ("crosscoder", "crosscoder")


def test_it_is_never_converted(tmp_path: Path) -> None:
    write(tmp_path / "in")
    with pytest.raises(CannotRepresent, match="several places or models"):
        convert(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UnsupportedArchitecture):
        load(tmp_path / "in")
    with pytest.raises(UnsupportedArchitecture):
        by_slug("crosscoder").reference(FolderSource(tmp_path / "in"), ".", {})


def test_crosscoders_of_linear_layers_are_known_by_their_header(tmp_path: Path) -> None:
    save_file(layers(), tmp_path / "weights.safetensors")
    info = inspect(tmp_path / "weights.safetensors")
    assert (info.format, info.get("n_sources")) == ("crosscoder", 3)
    assert (info.get("d_in"), info.get("d_sae")) == (16, 64)


def test_a_renamed_file_is_known_by_its_header(tmp_path: Path) -> None:
    save(tmp_path / "weights.pt", community())
    assert inspect(tmp_path).format == "crosscoder"


def test_names_find_crosscoders_and_nothing_else() -> None:
    theirs = [f"{HOOK}/cc_weights.pt", f"{HOOK}/cfg.json", "README.md", "state.pt"]
    assert [(it.where, it.format) for it in find_saes(theirs)] == [(HOOK, "crosscoder")]
    assert Crosscoder().find(Tree(["config.json", "model.safetensors", "cfg.json"])) == []


@pytest.mark.parametrize(
    "changes", [{"W_dec": some(64, 16, 2)}, {"b_dec": some(16)}, {"b_enc": some(63)}], ids=str
)
def test_shapes_that_do_not_fit_are_broken(
    changes: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    write(tmp_path, changes=changes)
    with pytest.raises(BrokenFile, match=next(iter(changes))):
        inspect(tmp_path)


@pytest.mark.parametrize(
    "config",
    [{"d_in": 17}, {"dict_size": "64"}, {"hook_point": 5}, {"layer": -1, "hook_point": None}],
)
def test_a_configuration_that_does_not_fit_is_broken(
    config: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, config)
    with pytest.raises(BrokenFile, match=next(iter(config))):
        inspect(tmp_path)


def test_two_axes_are_no_crosscoder(tmp_path: Path) -> None:
    made = linear()
    save(tmp_path / "cc_weights.pt", {"W_enc": made["encoder"], "W_dec": made["decoder"],
         "b_enc": made["b_enc"], "b_dec": made["b_dec"]})  # fmt: skip
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(UnknownFormat):
        identify(FolderSource(tmp_path), ".")


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    write(tmp_path)
    assert_cut_is_broken(tmp_path / "cc_weights.pt", lambda: identify(FolderSource(tmp_path), "."))
