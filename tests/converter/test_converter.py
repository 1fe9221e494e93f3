"""The converter from outside: what is asked, what is left behind, what it takes."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from saes.converter import (
    check_dimensions,
    convert,
    infer_model_from_dimensions,
    inspect,
)
from saes.errors import Conflict, DimensionMismatch, SeveralSaes, UnknownFormat
from saes.formats import FolderSource
from saes.formats.base import Fact, Facts, Origin, SaeInfo
from saes.progress import Silent, Stage, Stopped
from tests.fixtures import BY_NAME, write_saelens


class Recorder(Silent):
    def __init__(self, stop_at: Stage | None = None) -> None:
        self.stages: list[Stage] = []
        self.moves: dict[Stage, list[tuple[int, int]]] = {stage: [] for stage in Stage}
        self._stop_at = stop_at

    def say(self, stage: Stage, message: str, **details: Any) -> None:
        self.stages.append(stage)

    def advance(self, done: int, total: int) -> None:
        self.moves[self.stages[-1]].append((done, total))
        if self.stages[-1] == self._stop_at:
            raise Stopped


def test_it_tells_its_stages_and_how_far_it_is(tmp_path: Path) -> None:
    recorder = Recorder()
    convert(write_saelens(tmp_path / "in"), tmp_path / "out", "mistudio", progress=recorder)
    assert recorder.stages == [Stage.CONVERTING, Stage.VERIFYING]
    for stage in recorder.stages:
        done = [it for it, _ in recorder.moves[stage]]
        assert done == sorted(done)
        assert recorder.moves[stage][-1][0] == recorder.moves[stage][-1][1]


@pytest.mark.parametrize("to", ["mistudio", "saelens", "sparsify", "dictionary_learning"])
def test_what_is_in_the_target_already_is_never_overwritten(to: str, tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", "topk")
    convert(source, tmp_path / "out", to)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(Conflict, match="already"):
        convert(source, tmp_path / "out", to)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_configuration_of_another_format_is_never_overwritten(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "in", "topk")
    before = (folder / "cfg.json").read_bytes()
    with pytest.raises(Conflict, match=r"cfg\.json"):
        convert(folder, folder, "sparsify")
    assert (folder / "cfg.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["cfg.json", "sae_weights.safetensors"]


@pytest.mark.parametrize("stage", [Stage.CONVERTING, Stage.VERIFYING])
def test_stopped_in_any_stage_it_leaves_nothing_behind(stage: Stage, tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(Stopped):
        convert(source, tmp_path / "out", "mistudio", progress=Recorder(stage))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_of_several_saes_one_must_be_named(tmp_path: Path) -> None:
    sample = BY_NAME["mistudio_v1_multilayer"]
    with pytest.raises(SeveralSaes) as caught:
        inspect(sample.repo)
    assert len(caught.value.found) == 3
    assert inspect(sample.repo, caught.value.found[0]).where == caught.value.found[0]
    with pytest.raises(UnknownFormat) as nothing:
        inspect(tmp_path)
    assert "cfg.json" in nothing.value.refusals["SAELens"]


def test_a_place_may_end_in_a_slash_and_may_not_lead_out(tmp_path: Path) -> None:
    write_saelens(tmp_path / "repo" / "layer_6")
    assert inspect(tmp_path / "repo", "layer_6/").get("layer") == 6
    assert inspect(FolderSource(tmp_path / "repo", "x/y")).where == "layer_6"
    with pytest.raises(UnknownFormat):
        inspect(tmp_path / "repo" / "layer_6", "../layer_6")


@pytest.mark.parametrize(
    ("width", "model"),
    [
        (768, "gpt2"),
        (1024, "gpt2-medium"),
        (1280, "gpt2-large"),
        (1600, "gpt2-xl"),
        (2048, "google/gemma-2b"),
        (4096, "meta-llama/Llama-2-7b"),
        (2304, None),
    ],
)
def test_the_guide_s_table_of_models(width: int, model: str | None) -> None:
    assert infer_model_from_dimensions(width) == model


def info(d_in: int, **facts: Any) -> SaeInfo:
    told: Facts = {
        name: Fact(value, Origin.FILE) for name, value in {"d_in": d_in, **facts}.items()
    }
    return SaeInfo("saelens", ".", told)


@pytest.mark.parametrize("name", ["gpt2", "gpt2-small", "openai-community/gpt2", "GPT2"])
def test_a_known_model_of_another_width_is_a_mismatch(name: str) -> None:
    check_dimensions(name, info(768))
    with pytest.raises(DimensionMismatch, match="768"):
        check_dimensions(name, info(2304))


@pytest.mark.parametrize(
    ("name", "d_in", "facts"),
    [
        ("my-own-model", 5, {}),
        (None, 5, {}),
        ("gemma-2-2b", 2048, {"reshape_activations": "hook_z"}),
        ("gpt2", 3072, {"hook_name": "blocks.0.mlp.hook_post"}),
        ("google/gemma-2-9b-it", 3584, {}),
        ("meta-llama/Llama-3.1-8B-Instruct", 4096, {}),
    ],
)
def test_unknown_models_and_inner_hooks_are_not_doubted(
    name: str | None, d_in: int, facts: Any
) -> None:
    check_dimensions(name, info(d_in, **facts))


def test_neither_torch_nor_django_is_needed(tmp_path: Path) -> None:
    write_saelens(tmp_path / "in")
    paths = [str(tmp_path / name) for name in ("in", "out")]
    script = (
        "import sys; from pathlib import Path; import saes.formats, saes.converter as converter;"
        f"converter.convert(*map(Path, {paths!r}), 'mistudio');"
        "assert 'torch' not in sys.modules and 'django' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) << 10


def write_zeros(path: Path, d_in: int, d_sae: int) -> None:
    """A file of holes, so that only converting takes time. A third of the features fire."""
    b_enc = np.tile(np.array([1, -1, -1], np.float32), d_sae // 3 + 1)[:d_sae]
    shapes = {"W_dec": (d_sae, d_in), "W_enc": (d_in, d_sae), "b_dec": (d_in,)}
    at, header = (
        b_enc.nbytes,
        {"b_enc": {"dtype": "F32", "shape": [d_sae], "data_offsets": [0, b_enc.nbytes]}},
    )
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + b_enc.tobytes())
        file.truncate(8 + len(text) + at)


@pytest.mark.skipif(not psutil.LINUX, reason="reads /proc")
def test_memory_stays_flat_whatever_the_size(tmp_path: Path) -> None:
    """600 MB, both matrices turned and the certificate made, in less than 256 MB."""
    source = write_saelens(tmp_path / "in", d_in=2304, d_sae=32768)
    write_zeros(source / "sae_weights.safetensors", 2304, 32768)
    before, peak, over = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, anonymous())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = convert(tmp_path / "in", tmp_path / "out", "mistudio")
    finally:
        over.set()
        watcher.join()
    assert done.certificate is not None
    assert done.certificate.passed
    assert peak - before < 256 << 20
