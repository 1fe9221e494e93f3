"""circuit-tracer's transcoders found by names, and recognised without them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saes.converter import inspect, load
from saes.errors import (
    BadFact,
    NeedsFacts,
    NotThisFormat,
)
from saes.formats import FolderSource, by_slug, find_saes
from tests.fixtures.circuit_tracer import (
    FILE,
    asked,
    certified,
    layer,
    written,
)
from tests.formats.cuts import assert_cut_is_broken


def test_a_renamed_file_is_known_by_its_turned_encoder(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", layer(), "mine.safetensors", config=None)
    for where in ("mine.safetensors", "."):
        assert inspect(folder, where).format == "circuit_tracer_transcoder"
        assert asked(folder, where) == ["architecture"]
    with pytest.raises(NeedsFacts):
        load(folder, ".")
    for stated, k in (("transcoder", None), ("topk_transcoder", 3)):
        facts = {"architecture": stated, "k": k}
        info = certified(folder, tmp_path / stated, where="mine.safetensors", facts=facts)
        assert info.get("architecture") == stated
    written(tmp_path / "jump", layer("threshold"), "mine.safetensors", config=None)
    assert not asked(tmp_path / "jump", ".")


def test_a_square_encoder_without_telling_names_is_ambiguous(tmp_path: Path) -> None:
    square = layer("threshold", d_sae=16)
    named = written(tmp_path / "named", square)
    assert not asked(named)
    alone = written(tmp_path / "alone", square, "mine.safetensors", config=None)
    assert asked(alone, ".") == ["orientation"]
    for stated in ("d_sae,d_in", "d_in,d_sae"):
        facts = {"orientation": stated}
        certified(alone, tmp_path / stated, where=".", facts=facts)
        encoder = load(tmp_path / stated).tensors["W_enc"].all()
        turned = stated == "d_sae,d_in"
        assert np.array_equal(encoder, square["W_enc"].T if turned else square["W_enc"])


def test_a_plain_sae_or_another_projects_folder_is_not_ours(tmp_path: Path) -> None:
    made = layer()
    plain = written(tmp_path / "a", {**made, "W_enc": made["W_enc"].T}, "a.safetensors", None)
    beside = written(tmp_path / "b", made, "a.safetensors", None)
    (beside / "cfg.json").write_text("{}")
    probe = by_slug("circuit_tracer_transcoder").probe
    for folder in (plain, beside):
        with pytest.raises(NotThisFormat):
            probe(FolderSource(folder), "a.safetensors", {})


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    file = written(tmp_path, layer("threshold", "skip")) / FILE
    assert_cut_is_broken(file, lambda: inspect(tmp_path))


def test_names_find_every_layer_and_invent_none() -> None:
    names = ["config.yaml", "layer_0.safetensors", "layer_11.safetensors", "features/layer_0.bin"]
    deep = [f"transcoder_all/width_262k_l0_small/{name}" for name in names]
    stray = ["steering/layer_3.safetensors", "wide/wanb-config.yaml", "wide/layer_x.safetensors"]
    found = find_saes([*names, *deep, *stray])
    assert {it.where for it in found} == {
        "layer_0.safetensors",
        "layer_11.safetensors",
        "transcoder_all/width_262k_l0_small/layer_0.safetensors",
        "transcoder_all/width_262k_l0_small/layer_11.safetensors",
    }
    assert {it.format for it in found} == {"circuit_tracer_transcoder"}


@pytest.mark.parametrize(
    "given",
    [
        {"k": 3}, {"apply_b_dec_to_input": True}, {"normalize_activations": "layer_norm"},
        {"norm_scaling_factor": 2}, {"generation": 1}, {"orientation": "d_in,d_sae"},
    ],
)  # fmt: skip
def test_what_cannot_be_stated_of_it_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    folder = written(tmp_path / "in", layer())
    with pytest.raises(BadFact, match=next(iter(given))):
        inspect(folder, given=given)
    certified(folder, tmp_path / "out", facts={"orientation": "d_sae,d_in"})


def test_a_k_alone_does_not_answer_what_its_encoder_ends_in(tmp_path: Path) -> None:
    folder = written(tmp_path, layer(), "mine.safetensors", config=None)
    info = inspect(folder, "mine.safetensors", given={"k": 3})
    assert [it.name for it in info.missing] == ["architecture"]
    assert "architecture" not in info.facts
