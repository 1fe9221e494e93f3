"""Weight files read a second time, by other means, for the certificate.

Nothing here goes through the converter's readers of weights: safetensors by sequential reads, npz
and PyTorch files by Python's own zip reader, which checks the sums that they have. Rows are
streamed; no matrix is ever whole in memory.
"""

import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from saes import growing
from saes.errors import BrokenFile, UnsupportedArchitecture
from saes.formats.files.pickles import View, described
from saes.reference import Floats, Matrix, Narrow

PANEL = 4 << 20  # bytes read at a time
MANY_ROWS = 64  # read at once even where rows are long: their product is added up panel by panel
Open = Callable[[], Any]  # a context manager that gives a file, at the first number of a tensor
WORDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|b1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip


class Reread(Protocol):
    """A weight file. Vectors and numbers are float64, whatever is stored."""

    metadata: dict[str, str]
    objects: dict[str, Any]  # what a PyTorch file holds beside tensors

    @property
    def names(self) -> set[str]: ...

    def vector(self, name: str) -> Floats: ...

    def number(self, name: str) -> float: ...

    def matrix(self, name: str) -> Matrix: ...


@dataclass(frozen=True)
class _Stored:
    open: Open
    dtype: str
    shape: tuple[int, ...]
    fortran: bool = False
    path: Path | None = None  # of a file that is read as it grows; zips are whole

    @property
    def width(self) -> int:
        if self.dtype not in WORDS:
            raise UnsupportedArchitecture(f"A tensor is stored as {self.dtype}: it is not read.")
        return np.dtype(WORDS[self.dtype]).itemsize

    def numbers(self, file: IO[bytes], count: int) -> Narrow:
        size = count * self.width
        data = growing.read(file, self.path, size) if self.path else file.read(size)
        if len(data) != count * self.width:
            raise BrokenFile("A weight file ends early.")
        bits = np.frombuffer(data, WORDS[self.dtype])
        return (bits.astype("<u4") << 16).view("<f4") if self.dtype == "BF16" else bits

    def whole(self) -> Floats:
        with self.open() as file:
            flat = self.numbers(file, prod(self.shape)).astype(np.float64)
        return flat.reshape(self.shape, order="F" if self.fortran else "C")

    def matrix(self) -> Matrix:
        if len(self.shape) != 2:
            raise BrokenFile("A matrix of weights has not two axes.")
        rows, columns = self.shape[::-1] if self.fortran else self.shape
        row = columns * self.width
        step = max(1, PANEL // row, min(MANY_ROWS, 4 * PANEL // row))

        def panels() -> Iterator[tuple[int, Narrow]]:
            with self.open() as file:
                for start in range(0, rows, step):
                    count = min(step, rows - start)
                    yield start, self.numbers(file, count * columns).reshape(count, columns)

        return Matrix(panels, (rows, columns), self.width, turned=self.fortran)


class _File:
    def __init__(self, stored: dict[str, _Stored], metadata: dict[str, str], objects: Any) -> None:
        self._stored = stored
        self.metadata = metadata
        self.objects = objects

    @property
    def names(self) -> set[str]:
        return set(self._stored)

    def vector(self, name: str) -> Floats:
        return self._stored[name].whole()

    def number(self, name: str) -> float:
        return float(self._stored[name].whole().reshape(-1)[0])

    def matrix(self, name: str) -> Matrix:
        return self._stored[name].matrix()


def reopen(path: Path) -> Reread:
    """By its first bytes: a zip, a line of JSON with a zip behind it, or safetensors."""
    with path.open("rb") as file:
        first = growing.read(file, path, 8)
    is_json = first[:1] == b"{" and int.from_bytes(first, "little") > path.stat().st_size
    if not first.startswith(b"PK\x03\x04") and not is_json:
        return _safetensors(path)
    growing.wait_for_all(path)
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return _torch(path, archive, pickles[0]) if pickles else _npz(path, archive)


def _safetensors(path: Path) -> Reread:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(growing.read(file, path, length))
    metadata = header.pop("__metadata__", {})

    def at(offset: int) -> Open:
        @contextmanager
        def opened() -> Iterator[IO[bytes]]:
            with path.open("rb") as file:
                file.seek(offset)
                yield file

        return opened

    stored = {
        name: _Stored(
            at(8 + length + entry["data_offsets"][0]),
            entry["dtype"],
            tuple(entry["shape"]),
            path=path,
        )
        for name, entry in header.items()
    }
    return _File(stored, metadata, {})


def _npz(path: Path, archive: zipfile.ZipFile) -> Reread:
    codes = {np.dtype(word): code for code, word in WORDS.items() if code != "BF16"}
    stored = {}
    for member in archive.namelist():
        with _open(archive, member) as file:
            shape, fortran, dtype = _array_header(file)
            start = file.tell()
        if dtype in codes:
            opened = _member(path, member, start)
            stored[member.removesuffix(".npy")] = _Stored(opened, codes[dtype], shape, fortran)
    return _File(stored, {}, {})


def _torch(path: Path, archive: zipfile.ZipFile, pickle: str) -> Reread:
    leaves = dict(_leaves(described(path.name, _open(archive, pickle).read())))
    data = pickle.removesuffix("data.pkl") + "data/"
    stored = {
        name: _viewed(path, data + leaf.storage.key, leaf)
        for name, leaf in leaves.items()
        if isinstance(leaf, View)
    }
    return _File(stored, {}, {name: leaf for name, leaf in leaves.items() if name not in stored})


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    tensors = isinstance(tree, list | tuple) and any(isinstance(it, View) for it in tree)
    inner = dict(enumerate(tree)) if tensors else tree
    if not isinstance(inner, dict) or not inner:
        yield path, tree
        return
    for key, child in inner.items():
        yield from _leaves(child, f"{path}.{key}" if path else str(key))


def _viewed(path: Path, member: str, view: View) -> _Stored:
    """Row by row, or column by column, as a transposed matrix is saved."""
    by_columns = len(view.shape) == 2 and view.strides[0] == 1 != view.strides[1]
    fortran = by_columns and view.shape[0] > 1
    width = np.dtype(WORDS.get(view.dtype, "u1")).itemsize
    return _Stored(_member(path, member, view.offset * width), view.dtype, view.shape, fortran)


def _member(path: Path, member: str, start: int) -> Open:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, _open(archive, member) as file:
            for at in range(0, start, PANEL):
                file.read(min(PANEL, start - at))
            yield file

    return opened


def _open(archive: zipfile.ZipFile, member: str) -> IO[bytes]:
    """torch can be told to write 0 instead of checksums; what has none is not compared with it."""
    info = archive.getinfo(member)
    if info.CRC == 0:
        del info.CRC
    return archive.open(info)


def _array_header(file: Any) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    version = np.lib.format.read_magic(file)
    old = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return tuple(shape), fortran, dtype
