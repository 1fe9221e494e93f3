"""Weight files read a second time, by other means, for the certificate.

Nothing here goes through the converter's readers of weights: safetensors by sequential reads, npz
and PyTorch files by Python's own zip reader, which checks their sums. Rows are streamed; no matrix
is ever whole in memory.
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

from saes.errors import BrokenFile
from saes.reference import Floats, Matrix

PANEL = 4 << 20  # bytes read at a time, before they become float64
Open = Callable[[], Any]  # a context manager that gives a file, at the first number of a tensor
WORDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}


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

    @property
    def width(self) -> int:
        return np.dtype(WORDS[self.dtype]).itemsize

    def numbers(self, file: IO[bytes], count: int) -> Floats:
        data = file.read(count * self.width)
        if len(data) != count * self.width:
            raise BrokenFile("A weight file ends early.")
        bits = np.frombuffer(data, WORDS[self.dtype])
        if self.dtype == "BF16":
            bits = (bits.astype("<u4") << 16).view("<f4")
        return bits.astype(np.float64)

    def whole(self) -> Floats:
        with self.open() as file:
            flat = self.numbers(file, prod(self.shape))
        return flat.reshape(self.shape, order="F" if self.fortran else "C")

    def matrix(self) -> Matrix:
        if len(self.shape) != 2:
            raise BrokenFile("A matrix of weights has not two axes.")
        rows, columns = self.shape[::-1] if self.fortran else self.shape
        step = max(1, PANEL // (columns * self.width))

        def panels() -> Iterator[tuple[int, Floats]]:
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
    """By its first bytes, or by the zip directory at its end."""
    if not zipfile.is_zipfile(path):
        return _safetensors(path)
    with zipfile.ZipFile(path) as archive:
        return _npz(path, archive)


def _safetensors(path: Path) -> Reread:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
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
            at(8 + length + entry["data_offsets"][0]), entry["dtype"], tuple(entry["shape"])
        )
        for name, entry in header.items()
    }
    return _File(stored, metadata, {})


def _npz(path: Path, archive: zipfile.ZipFile) -> Reread:
    codes = {np.dtype(word): code for code, word in WORDS.items() if code != "BF16"}
    stored = {}
    for member in archive.namelist():
        with archive.open(member) as file:
            shape, fortran, dtype = _array_header(file)
            start = file.tell()
        if dtype in codes:
            opened = _member(path, member, start)
            stored[member.removesuffix(".npy")] = _Stored(opened, codes[dtype], shape, fortran)
    return _File(stored, {}, {})


def _member(path: Path, member: str, start: int) -> Open:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            file.read(start)
            yield file

    return opened


def _array_header(file: Any) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    version = np.lib.format.read_magic(file)
    old = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return tuple(shape), fortran, dtype
