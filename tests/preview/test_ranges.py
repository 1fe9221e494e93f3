"""A preview reads names, configs and headers, and never a weight: the hub's log is the witness."""

import io
import json
import time
import zipfile
from collections.abc import Iterator
from multiprocessing import get_context

import numpy as np
import pytest
from safetensors.numpy import save

from saes import preview
from saes.hub import Hub, RepoRef
from tests.fixtures import LISTINGS
from tests.hub import LocalHub
from tests.preview.large import serve_50000_files

REPO = "google/gemma-scope-2b-pt-res"
MOST = 64 * 1024  # bytes read for one SAE that is opened
Span = tuple[int, int]


def names(count: int) -> list[str]:
    """Those of the real repository; if it lists fewer, more of the same kind."""
    known = LISTINGS["google/gemma-scope-2b-pt-mlp"]["files"]
    real = [name for name in known if name.endswith("params.npz")]
    more = (f"layer_{n}/width_32k/average_l0_{n}/params.npz" for n in range(1000))
    return [*real, *more][:count]


def npz(d_in: int = 64, d_sae: int = 1024) -> bytes:
    random, file = np.random.default_rng(1), io.BytesIO()
    np.savez(
        file,
        W_enc=random.standard_normal((d_in, d_sae), np.float32),
        W_dec=random.standard_normal((d_sae, d_in), np.float32),
        b_enc=np.zeros(d_sae, np.float32),
        b_dec=np.zeros(d_in, np.float32),
        threshold=np.full(d_sae, 0.5, np.float32),
    )
    return file.getvalue()


def weights_of_npz(content: bytes) -> list[Span]:
    """Where the array data of each member lie in the file, by numpy's and zipfile's own readers."""
    spans = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            with archive.open(member) as array:
                version = np.lib.format.read_magic(array)
                assert version == (1, 0)
                np.lib.format.read_array_header_1_0(array)
                header = array.tell()
            at = member.header_offset
            extra = int.from_bytes(content[at + 28 : at + 30], "little")
            start = at + 30 + len(member.filename) + extra
            assert content[start : start + 6] == b"\x93NUMPY"
            spans.append((start + header, start + member.file_size))
    return spans


def touched(log: list[Span], spans: list[Span]) -> list[Span]:
    return [(a, b) for a, b in log for start, stop in spans if a < stop and b > start]


def ranges(hub: LocalHub, name: str) -> list[Span]:
    found = []
    for asked in hub.log.ranges(name):
        assert asked is not None, "a whole file was asked for"
        assert asked[0] is not None and asked[0] >= 0 and asked[1] is not None
        found.append((asked[0], asked[1]))
    return found


def test_the_check_would_see_a_weight_byte() -> None:
    content = npz()
    spans = weights_of_npz(content)
    assert len(spans) == 5
    assert touched([(spans[0][0], spans[0][0] + 1)], spans)
    assert not touched([(0, spans[0][0])], spans)


def test_a_preview_of_316_saes_reads_no_weight_byte(hub: LocalHub) -> None:
    content = npz()
    spans, files = weights_of_npz(content), names(316)
    assert len(set(files)) == 316
    hub.add_repo(REPO, {**dict.fromkeys(files, content), "README.md": b"# Gemma Scope"})
    found = preview.look(Hub(hub.url), RepoRef(REPO), "me")
    assert len(found.rows) == 316
    assert ranges(hub, "params.npz") == []
    for row in found.rows:
        info = found.header(row.where)
        assert (info.get("d_in"), info.get("d_sae"), info.get("dtype")) == (64, 1024, "float32")
    for name in files:
        here = ranges(hub, f"/{name}")
        assert here
        assert touched(here, spans) == []
        assert sum(stop - start for start, stop in here) < MOST
        assert hub.log.bytes_sent(f"/{name}") < MOST
    assert hub.log.bytes_sent("README.md") == 0


def test_nor_does_a_preview_of_safetensors(hub: LocalHub) -> None:
    arrays = {
        "W_enc": np.ones((64, 1024), np.float32), "W_dec": np.ones((1024, 64), np.float32),
        "b_enc": np.ones(1024, np.float32), "b_dec": np.ones(64, np.float32),
    }  # fmt: skip
    content = save(arrays)
    start = 8 + int.from_bytes(content[:8], "little")
    cfg = {"architecture": "standard", "d_in": 64, "d_sae": 1024, "dtype": "float32",
           "hook_name": "blocks.3.hook_resid_post", "model_name": "gpt2"}  # fmt: skip
    hub.add_repo(
        "a/sae", {"x/sae_weights.safetensors": content, "x/cfg.json": json.dumps(cfg).encode()}
    )
    found = preview.look(Hub(hub.url), RepoRef("a/sae"), "me")
    assert found.header("x").get("d_sae") == 1024
    here = ranges(hub, "sae_weights.safetensors")
    assert here and touched(here, [(start, len(content))]) == []
    assert hub.log.bytes_sent("/x/") < MOST


def test_a_header_is_read_once(hub: LocalHub) -> None:
    hub.add_repo(REPO, dict.fromkeys(names(2), npz()))
    found = preview.look(Hub(hub.url), RepoRef(REPO), "me")
    found.header(found.rows[0].where)
    hub.log.clear()
    again = preview.again(Hub(hub.url), RepoRef(REPO, "model", hub.repo(REPO).sha), "me")
    again.header(found.rows[0].where)
    assert hub.log.requests() == []


@pytest.fixture
def large() -> Iterator[str]:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=serve_50000_files, args=(theirs,))
    process.start()
    theirs.close()
    yield ours.recv()
    ours.send("stop")
    process.join(10)


def test_a_repository_of_50000_files_lists_within_three_seconds(large: str) -> None:
    times = []
    for asker in range(3):
        begun = time.process_time()  # not disturbed by what else this machine does
        found = preview.look(Hub(large), RepoRef("a/large"), asker)
        times.append(time.process_time() - begun)
        assert (len(found.listing.files), len(found.rows)) == (50_000, 10_000)
    preview._previews.clear()
    assert min(times) < 3  # of the processor: others may use it, too


def test_layers_widths_and_sparsities_sort_as_numbers(hub: LocalHub) -> None:
    folders = [
        f"layer_{layer}/width_{width}/{end}"
        for layer in (2, 9, 10)
        for width in ("16k", "131k", "1m")
        for end in ("average_l0_9", "average_l0_10", "average_l0_100")
    ]
    files = {f"{folder}/params.npz": b"x" for folder in sorted(folders)}
    hub.add_repo(REPO, files)
    found = preview.look(Hub(hub.url), RepoRef(REPO), "me")
    assert [row.where for row in found.rows] == folders


def test_sparsities_in_words_sort_beside_numbers(hub: LocalHub) -> None:
    ends = ("average_l0_9", "average_l0_10", "l0_small", "l0_big", "canonical", "average_l0_x")
    hub.add_repo(REPO, {f"layer_3/width_16k/{end}/params.npz": b"x" for end in ends})
    found = preview.look(Hub(hub.url), RepoRef(REPO), "me")
    shown = [row.where.split("/")[2] for row in found.rows]
    assert set(shown) == set(ends)
    assert shown.index("average_l0_9") < shown.index("average_l0_10")
