"""Headers are read by ranges, without a weight; files are written block by block."""

import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from saes.errors import BrokenFile, PathNotFound, UnsafeName
from saes.formats import FolderSource, identify
from saes.formats.files.containers import read_safetensors
from saes.formats.files.npz import read_npz
from saes.formats.files.writing import write_safetensors
from saes.progress import Silent, Stopped
from saes.tensors import Held, LazyTensor, Stored
from tests.fixtures import SAMPLES, Array, Sample, tensors
from tests.formats.cuts import assert_cut_is_broken


class Watched(FolderSource):
    """Remembers which bytes were read."""

    def __init__(self, root: Path, repo_id: str | None = None) -> None:
        super().__init__(root, repo_id)
        self.ranges: list[tuple[str, int, int]] = []

    def read(self, name: str, start: int, stop: int) -> bytes:
        self.ranges.append((name, start, stop))
        return super().read(name, start, stop)


def weight_bytes(path: Path) -> list[range]:
    """Where the numbers lie, found without the project's own readers.

    Not counted is a single number, such as k or a threshold: it is part of the configuration.
    """
    if path.suffix == ".safetensors":
        places = _in_safetensors(path.read_bytes())
    elif zipfile.is_zipfile(path):
        places = _in_zip(path)
    else:
        places = []
    return [place for place in places if len(place) > 8]


def _in_safetensors(whole: bytes) -> list[range]:
    data = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:data])
    header.pop("__metadata__", None)
    offsets = [entry["data_offsets"] for entry in header.values()]
    return [range(data + start, data + stop) for start, stop in offsets]


def _in_zip(path: Path) -> list[range]:
    whole, places = path.read_bytes(), []
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            lengths = whole[info.header_offset + 26 : info.header_offset + 30]
            start = info.header_offset + 30 + sum(struct.unpack("<HH", lengths))
            stop = start + info.compress_size
            if info.filename.endswith(".npy"):
                start += 10 + int.from_bytes(whole[start + 8 : start + 10], "little")
            if info.filename.endswith(".npy") or "/data/" in info.filename:
                places.append(range(start, stop))
    return places


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_no_weight_is_read_to_identify_an_sae(sample: Sample) -> None:
    source = Watched(sample.repo, sample.repo_id)
    identify(source, sample.where)
    assert source.ranges
    for name, start, stop in source.ranges:
        for weights in weight_bytes(sample.repo / name):
            assert stop <= weights.start or start >= weights.stop, (name, start, stop)


def test_a_safetensors_header_takes_two_reads(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3, 5)}, tmp_path / "a.safetensors")
    source = Watched(tmp_path)
    assert read_safetensors(source, "a.safetensors").shapes == {"a": (3, 5)}
    assert [stop for _, _, stop in source.ranges] == [
        8,
        weight_bytes(tmp_path / "a.safetensors")[0].start,
    ]


def test_an_npz_takes_two_reads_and_one_for_each_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **tensors("jumprelu"))
    source = Watched(tmp_path)
    assert len(read_npz(source, "a.npz").members) == 5
    assert len(source.ranges) == 2 + 5


@pytest.mark.parametrize(
    ("name", "read"), [("a.safetensors", read_safetensors), ("a.npz", read_npz)]
)
def test_a_file_cut_at_any_byte_is_broken(name: str, read: Any, tmp_path: Path) -> None:
    save_file({"a": torch.ones(3, 5), "b": torch.ones(1)}, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", a=np.ones((3, 5)), b=np.float32(1))
    path = tmp_path / name
    every = range(path.stat().st_size)
    assert_cut_is_broken(path, lambda: read(FolderSource(tmp_path), name), every)


def old_npy(array: Array) -> bytes:
    """As numpy before 1.14 wrote it: a header padded to 16 bytes."""
    text = repr({"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}).encode()
    text += b" " * (-(len(text) + 11) % 16) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + array.tobytes()


@pytest.mark.parametrize("comment", [b"", b"made long ago"])
@pytest.mark.parametrize("length", [4, 5, 16, 33])
def test_old_headers_odd_sizes_and_comments_are_read_without_a_weight(
    length: int, comment: bytes, tmp_path: Path
) -> None:
    array = np.arange(length, dtype=np.float32)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", old_npy(array))
        archive.comment = comment
    source = Watched(tmp_path)
    container = read_npz(source, "a.npz")
    assert np.array_equal(container.tensor(source, "a").all(), array)
    if not comment:
        for weights in weight_bytes(tmp_path / "a.npz"):
            assert all(
                stop <= weights.start or start >= weights.stop for _, start, stop in source.ranges
            )


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_array_header_is_read(
    version: tuple[int, int], tmp_path: Path
) -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asfortranarray(np.arange(6.0).reshape(2, 3)), version)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", file.getvalue())
    source = FolderSource(tmp_path)
    assert read_npz(source, "a.npz").tensor(source, "a").all().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_zip64_directory_is_read(tmp_path: Path) -> None:
    """As an npz of more than 4 GiB has one: the same place, in the extra field."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", old_npy(np.ones(16, np.float32)))
    whole = bytearray((tmp_path / "a.npz").read_bytes())
    at = whole.index(b"PK\x01\x02")
    size = int.from_bytes(whole[at + 20 : at + 24], "little")
    extra = b"\x01\x00\x18\x00" + size.to_bytes(8, "little") * 2 + bytes(8)
    whole[at + 20 : at + 28] = b"\xff" * 8
    whole[at + 30 : at + 32] = len(extra).to_bytes(2, "little")
    whole[at + 42 : at + 46] = b"\xff" * 4
    name_end = at + 46 + 5
    whole[name_end:name_end] = extra
    end = whole.index(b"PK\x05\x06")
    whole[end + 12 : end + 16] = (end - at).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(whole)
    source = FolderSource(tmp_path)
    assert read_npz(source, "a.npz").tensor(source, "a").all().sum() == 16


def test_a_compressed_npz_is_read_and_its_header_without_its_weights(tmp_path: Path) -> None:
    made: dict[str, Any] = {"W": np.random.default_rng(0).random((300, 200))}
    made |= {"b": np.arange(5, dtype=np.float16), "turned": np.asfortranarray(made["W"])}
    np.savez_compressed(tmp_path / "a.npz", **made)
    source = Watched(tmp_path)
    container = read_npz(source, "a.npz")
    assert container.shapes == {name: array.shape for name, array in made.items()}
    assert sum(stop - start for _, start, stop in source.ranges) < 3 * 5000
    for name, array in made.items():
        assert np.array_equal(container.tensor(source, name).all(), array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


class Pipe(io.RawIOBase):
    """A place to write to that cannot be gone back in."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.written += data
        return len(data)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_npz_that_was_written_to_a_pipe_is_read(compression: int, tmp_path: Path) -> None:
    """Its members' sizes stand behind their bytes."""
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", compression) as archive:
        for name in "ab":
            archive.writestr(f"{name}.npy", old_npy(np.arange(20.0)))
    (tmp_path / "a.npz").write_bytes(pipe.written)
    source = FolderSource(tmp_path)
    container = read_npz(source, "a.npz")
    assert all(container.tensor(source, name).all().sum() == 190 for name in "ab")


# --- writing ------------------------------------------------------------------------------------


def test_what_is_written_is_what_the_safetensors_library_reads(tmp_path: Path) -> None:
    made: dict[str, LazyTensor] = {
        "b": Held(np.arange(3.0), "F64"),
        "a": Held(np.arange(6.0).reshape(2, 3), "BF16").transposed(),
        "c": Held(np.arange(5.0), "F32"),
    }
    write_safetensors(tmp_path / "x", made, {"format": "mistudio"}, Silent())
    with safe_open(tmp_path / "x", "pt") as file:
        assert file.metadata() == {"format": "mistudio"}
        assert file.get_tensor("a").tolist() == [[0, 3], [1, 4], [2, 5]]
        assert file.get_tensor("a").dtype == torch.bfloat16
        assert file.get_tensor("b").tolist() == [0, 1, 2]
    assert read_safetensors(FolderSource(tmp_path), "x").shapes == {
        "a": (3, 2),
        "b": (3,),
        "c": (5,),
    }


@pytest.mark.parametrize("shape", [(5000, 1100), (1100, 5000), (1, 3_000_000), (3_000_000, 1)])
def test_blocks_of_every_form_land_in_their_place(shape: tuple[int, int], tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 2**32, shape, np.uint32)
    array.tofile(tmp_path / "raw")
    stored = Stored(tmp_path / "raw", 0, "F32", shape)
    write_safetensors(tmp_path / "x", {"same": stored, "turned": stored.transposed()}, {}, Silent())
    with safe_open(tmp_path / "x", "np") as file:
        assert np.array_equal(file.get_tensor("same").view(np.uint32), array)
        assert np.array_equal(file.get_tensor("turned").view(np.uint32), array.T)


def test_writing_tells_how_far_it_is_and_stops_when_told(tmp_path: Path) -> None:
    class Impatient(Silent):
        told: list[tuple[int, int]] = []

        def advance(self, done: int, total: int) -> None:
            self.told.append((done, total))
            if len(self.told) == 3:
                raise Stopped

    (tmp_path / "raw").write_bytes(bytes(64 << 20))
    stored = Stored(tmp_path / "raw", 0, "F32", (4096, 4096))
    with pytest.raises(Stopped):
        write_safetensors(tmp_path / "x", {"a": stored.transposed()}, {}, Impatient())
    assert [done for done, _ in Impatient.told] == sorted(done for done, _ in Impatient.told)
    assert Impatient.told[-1][0] < (64 << 20)


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_answers_as_a_repository_does(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.json").write_text("{}")
    source = FolderSource(tmp_path, "x/y")
    assert (source.tree.names, source.tree.repo_id) == (frozenset({"a/b.json"}), "x/y")
    assert source.read("a/b.json", 0, 2) == b"{}"
    with pytest.raises(BrokenFile):
        source.read("a/b.json", 0, 3)
    with pytest.raises(PathNotFound):
        source.size("c")
    with pytest.raises(UnsafeName):
        source.read("../c", 0, 1)


def test_links_inside_are_files_and_anything_else_is_not(tmp_path: Path) -> None:
    (tmp_path / "hub" / "blobs").mkdir(parents=True)
    (tmp_path / "hub" / "blobs" / "1234").write_text("{}")
    snapshot = tmp_path / "hub" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "cfg.json").symlink_to("../../blobs/1234")
    (snapshot / "loop").symlink_to("loop")
    (snapshot / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(snapshot / "fifo")
    assert FolderSource(snapshot).tree.names == frozenset()
    linked = FolderSource(snapshot, within=tmp_path / "hub")
    assert linked.tree.names == {"cfg.json"}
    assert json.loads(linked.text("cfg.json")) == {}
