"""Checkpoints written without torch: torch itself loads them, and no tensor is whole in memory."""

import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from saes.formats import FolderSource
from saes.formats.files import pt_writing
from saes.formats.files.opening import open_container
from saes.formats.files.pt_writing import Number, Written, write_pt
from saes.progress import Silent, Stopped
from saes.tensors import Bits, Held, LazyTensor, to_bits

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SOME = np.random.default_rng(3).standard_normal((70, 130))


class Made(LazyTensor):
    """A matrix too large to hold: its numbers are made up block by block."""

    def block(self, *index: slice) -> Bits:
        rows, columns = (np.arange(cut.start, cut.stop, dtype=np.float64) for cut in index)
        return to_bits(np.add.outer(rows, columns / 8192), self.dtype)


def write(path: Path, **tensors: Written) -> Path:
    write_pt(path, tensors, Silent())
    return path


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_reads_every_dtype_bit_for_bit(dtype: str, tmp_path: Path) -> None:
    path = write(tmp_path / "ae.pt", W=Held(SOME, dtype), b=Held(SOME[0], dtype))
    loaded = torch.load(path, weights_only=True)
    assert list(loaded) == ["W", "b"]
    wanted = torch.from_numpy(SOME).to(DTYPES[dtype])
    assert loaded["W"].dtype == DTYPES[dtype]
    assert torch.equal(loaded["W"], wanted)
    assert torch.equal(loaded["b"], wanted[0])


def test_nan_and_infinity_keep_their_bits(tmp_path: Path) -> None:
    values = np.array([np.nan, -np.inf, -0.0, 1e-45])
    loaded = torch.load(write(tmp_path / "ae.pt", b=Held(values, "F32")), weights_only=True)
    assert loaded["b"].numpy().tobytes() == values.astype("<f4").tobytes()


def test_a_transposed_tensor_is_written_turned_and_dense(tmp_path: Path) -> None:
    loaded = torch.load(
        write(tmp_path / "ae.pt", W=Held(SOME, "F32").transposed()), weights_only=True
    )
    assert loaded["W"].is_contiguous()
    assert torch.equal(loaded["W"], torch.from_numpy(SOME).float().T)


def test_single_numbers_have_no_axis(tmp_path: Path) -> None:
    path = write(tmp_path / "ae.pt", k=Number(7, "I32"), threshold=Number(-1.0, "F32"))
    loaded = torch.load(path, weights_only=True)
    assert (loaded["k"].dtype, loaded["k"].shape, loaded["k"].item()) == (torch.int32, (), 7)
    assert loaded["threshold"].item() == -1


def test_numbers_lie_at_multiples_of_64_bytes_so_that_torch_can_map_them(tmp_path: Path) -> None:
    path = write(tmp_path / "ae.pt", b=Held(SOME[0], "F32"), W=Held(SOME, "F16"))
    content = path.read_bytes()
    for numbers in (SOME[0].astype("<f4").tobytes(), SOME.astype("<f2").tobytes()):
        assert content.index(numbers) % 64 == 0
    assert torch.equal(
        torch.load(path, weights_only=True, mmap=True)["W"], torch.from_numpy(SOME).half()
    )


def test_every_member_is_stored_and_its_sum_is_right(tmp_path: Path) -> None:
    path = write(tmp_path / "sae.pt", W=Held(SOME, "F32"), k=Number(7, "I32"))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {it.compress_type for it in archive.infolist()} == {zipfile.ZIP_STORED}
        assert [it.filename for it in archive.infolist()] == [
            "sae/data.pkl", "sae/byteorder", "sae/data/0", "sae/data/1", "sae/version",
        ]  # fmt: skip


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "1", tmp_path / "2"
    one.mkdir()
    other.mkdir()
    made = [write(it / "ae.pt", W=Held(SOME, "F32")).read_bytes() for it in (one, other)]
    assert made[0] == made[1]


def test_our_own_reader_finds_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / "ae.pt", W=Held(SOME, "BF16"), k=Number(7, "I32"))
    source = FolderSource(tmp_path)
    container = open_container(source, "ae.pt")
    assert container.shapes == {"W": (70, 130), "k": ()}
    assert container.scalar(source, "k") == 7
    assert np.array_equal(container.tensor(source, "W").all(), Held(SOME, "BF16").all())


def test_members_of_more_than_two_gigabytes_get_wide_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    path = write(tmp_path / "ae.pt", W=Held(SOME, "F32"), b=Held(SOME[0], "F32"))
    assert path.read_bytes().index(SOME.astype("<f4").tobytes()) % 64 == 0
    assert b"\x01\x00\x10\x00" in path.read_bytes()  # zip64's own field
    assert torch.equal(torch.load(path, weights_only=True)["W"], torch.from_numpy(SOME).float())
    container = open_container(FolderSource(tmp_path), "ae.pt")
    assert np.array_equal(
        container.tensor(FolderSource(tmp_path), "b").all(), SOME[0].astype("<f4")
    )


def test_counts_beyond_four_bytes_are_written_whole() -> None:
    assert pt_writing._whole(2**31 - 1) == b"J\xff\xff\xff\x7f"
    assert pt_writing._whole(2**31) == b"\x8a\x08" + (2**31).to_bytes(8, "little")


def test_memory_stays_flat_however_large_the_tensor(tmp_path: Path) -> None:
    big = Made((4096, 8192), "F32").transposed()
    tracemalloc.start()
    path = write(tmp_path / "ae.pt", W=big)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > big.nbytes == 128 << 20
    assert peak < big.nbytes // 2
    loaded = torch.load(path, weights_only=True, mmap=True)["W"]
    assert loaded[8191, 4095].item() == np.float32(4095 + 8191 / 8192)


def test_progress_tells_bytes_and_may_stop_the_writing(tmp_path: Path) -> None:
    class Impatient(Silent):
        told: list[tuple[int, int]] = []

        def advance(self, done: int, total: int) -> None:
            self.told.append((done, total))
            if done == total:
                raise Stopped

    with pytest.raises(Stopped):
        write_pt(tmp_path / "ae.pt", {"W": Held(SOME, "F32")}, Impatient())
    assert Impatient.told == [(SOME.size * 4, SOME.size * 4)]


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ae.pt").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write(tmp_path / "ae.pt", W=Held(SOME, "F32"))
    assert (tmp_path / "ae.pt").read_bytes() == b"mine"


def test_the_pickle_names_nothing_but_torch_and_ordered_dicts(tmp_path: Path) -> None:
    path = write(tmp_path / "ae.pt", W=Held(SOME, "F32"), k=Number(7, "I32"))
    with zipfile.ZipFile(path) as archive:
        pickle = archive.read("ae/data.pkl")
    assert set(re.findall(rb"c([\w.]+\n\w+)\n", pickle)) == {
        b"collections\nOrderedDict",
        b"torch._utils\n_rebuild_tensor_v2",
        b"torch\nFloatStorage",
        b"torch\nIntStorage",
    }
