"""Weights read lazily: blocks of rows and columns, straight from the file, as raw bits.

Bits, not numbers: a transposed bf16 or a NaN comes out as it went in. Arithmetic is done in float64
and rounded once, to the nearest even.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saes import growing

Bits = NDArray[Any]  # unsigned integers as wide as the dtype
Floats = NDArray[np.float64]
Index = tuple[slice, ...]
Function = Callable[[Floats, Index], Floats]

BITS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<u8"),
    "F32": np.dtype("<u4"),
    "F16": np.dtype("<u2"),
    "BF16": np.dtype("<u2"),
}
FLOATS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
}
WIDER = {
    "F64": "F64",
    "F32": "F32",
    "F16": "F32",
    "BF16": "F32",
}  # where a product keeps its digits
PANEL = 8 << 20  # bytes read at a time; float64 temporaries take four times as much
CACHE_LINE = 64
TILE = 64


def to_floats(bits: Bits, dtype: str) -> Floats:
    narrow = (bits.astype("<u4") << 16).view("<f4") if dtype == "BF16" else bits.view(FLOATS[dtype])
    with np.errstate(invalid="ignore"):  # signalling NaN, in thresholds nobody trained
        return narrow.astype(np.float64)


def to_bits(values: Floats, dtype: str) -> Bits:
    """Rounded once, to the nearest even; too large becomes infinity, as in torch."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "BF16":
            return _bf16(values)
        return values.astype(FLOATS[dtype]).view(BITS[dtype])


def _bf16(values: Floats) -> Bits:
    """Through float32 rounded to odd, because two roundings to nearest can differ from one."""
    single = values.astype("<f4")
    bits = single.view("<u4").copy()
    back = single.astype(np.float64)
    bits[np.abs(back) > np.abs(values)] -= 1
    bits[(back != values) & ~np.isnan(values)] |= 1
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


class Turner(threading.local):
    """Dense copies of transposed blocks, up to 7 x as fast as numpy's own.

    Rows go to a buffer where a cache line lies between them, for rows that are a power of two apart
    push each other out of the cache; from there by 64 columns. Fresh memory would cost as much as
    the copy, so a thread's buffers are used again: a result lasts until its next one.
    """

    def __init__(self) -> None:
        self._apart = np.empty(2 * PANEL, np.uint8)
        self._dense = np.empty(PANEL, np.uint8)

    def __call__(self, bits: Bits) -> Bits:
        height, width = bits.shape
        if min(height, width) < TILE or bits.nbytes > PANEL:
            return np.ascontiguousarray(bits)
        pitch = height + CACHE_LINE // bits.itemsize
        apart = self._apart.view(bits.dtype)[: width * pitch].reshape(width, pitch)[:, :height]
        apart[...] = bits.T
        dense = self._dense.view(bits.dtype)[: height * width].reshape(height, width)
        for columns in steps(width, TILE):
            dense[:, columns] = apart[columns].T
        return dense


def steps(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


class LazyTensor(ABC):
    """A tensor of one or two axes of which blocks are read. dtype in safetensors' words."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = dtype

    @abstractmethod
    def block(self, *index: slice) -> Bits:
        """The bits at one slice per axis; a view where that costs nothing."""

    def floats(self, *index: slice) -> Floats:
        return to_floats(self.block(*index), self.dtype)

    def all(self) -> Floats:
        """Every number: for vectors and tests."""
        return self.floats(*(slice(0, length) for length in self.shape))

    @property
    def itemsize(self) -> int:
        return BITS[self.dtype].itemsize

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.itemsize

    def panels(self) -> Iterator[slice]:
        """Rows that together are about one panel."""
        row = max(1, self.nbytes // self.shape[0])
        return steps(self.shape[0], max(1, PANEL // row))

    def transposed(self) -> "LazyTensor":
        return Transposed(self)

    def mapped(self, function: Function, dtype: str | None = None) -> "LazyTensor":
        """Computed number by number; narrow types become F32, so that nothing more is lost."""
        return Mapped(self, function, dtype or WIDER[self.dtype])

    def scaled(self, factor: float | Floats, axis: int = 0) -> "LazyTensor":
        """Times a number, or times a vector along `axis`."""
        if isinstance(factor, int | float):
            return self.mapped(lambda values, index: values * factor)
        across = (1,) * (len(self.shape) - 1 - axis)
        return self.mapped(lambda values, index: values * factor[index[axis]].reshape(-1, *across))

    def plus(self, other: "LazyTensor") -> "LazyTensor":
        return self.mapped(lambda values, index: values + other.floats(*index))

    def cast(self, dtype: str) -> "LazyTensor":
        return self if dtype == self.dtype else self.mapped(lambda values, index: values, dtype)


class Stored(LazyTensor):
    """Memory-mapped, so that the page cache holds it and not this process."""

    def __init__(
        self, path: Path, offset: int, dtype: str, shape: tuple[int, ...], fortran: bool = False
    ) -> None:
        super().__init__(shape, dtype)
        self._place = (path, offset)
        self._order: Any = "F" if fortran else "C"
        self._map: Bits | None = None

    def block(self, *index: slice) -> Bits:
        if self._map is None:
            path, offset = self._place
            mapped = np.memmap(path, BITS[self.dtype], "r", offset, self.shape, order=self._order)
            self._map = np.asarray(mapped)
        growing.wait_for(self._place[0], *self._bytes(index))
        return self._map[index]

    def _bytes(self, index: Index) -> tuple[int, int]:
        """Where the bytes of a block lie in the file, and perhaps others between them."""
        start, stop, _ = index[self._slow_axis].indices(self.shape[self._slow_axis])
        line = self.nbytes // max(1, self.shape[self._slow_axis])
        return self._place[1] + start * line, self._place[1] + stop * line

    @property
    def _slow_axis(self) -> int:
        return -1 if self._order == "F" else 0


class Transposed(LazyTensor):
    def __init__(self, base: LazyTensor) -> None:
        super().__init__(base.shape[::-1], base.dtype)
        self._base = base

    def block(self, *index: slice) -> Bits:
        return self._base.block(*index[::-1]).T


class Mapped(LazyTensor):
    def __init__(self, base: LazyTensor, function: Function, dtype: str) -> None:
        super().__init__(base.shape, dtype)
        self._base, self._function = base, function

    def block(self, *index: slice) -> Bits:
        return to_bits(self._function(self._base.floats(*index), index), self.dtype)


class Held(LazyTensor):
    """A small tensor computed here, such as a folded bias."""

    def __init__(self, values: Floats, dtype: str) -> None:
        super().__init__(values.shape, dtype)
        self._bits = to_bits(np.ascontiguousarray(values, np.float64), dtype)

    def block(self, *index: slice) -> Bits:
        return self._bits[index]


class Diagonal(LazyTensor):
    """`value` times the identity."""

    def __init__(self, value: float, size: int, dtype: str) -> None:
        super().__init__((size, size), dtype)
        self._value = value

    def block(self, *index: slice) -> Bits:
        rows, columns = (
            np.arange(length)[cut] for length, cut in zip(self.shape, index, strict=True)
        )
        return to_bits(np.equal.outer(rows, columns) * self._value, self.dtype)


def row_norms(matrix: LazyTensor) -> Floats:
    """The length of each row, read panel by panel."""
    return np.concatenate(
        [np.linalg.norm(matrix.floats(rows, slice(None)), axis=1) for rows in matrix.panels()]
    )


def vector_times(vector: Floats, matrix: LazyTensor) -> Floats:
    """vector @ matrix, read panel by panel."""
    total = np.zeros(matrix.shape[1])
    for rows in matrix.panels():
        total += vector[rows] @ matrix.floats(rows, slice(None))
    return total
