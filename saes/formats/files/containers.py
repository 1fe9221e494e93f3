"""Headers of weight files: each tensor's name, dtype, shape and place. No weight is read.

A file is what its first bytes say, whatever its name. Every number of a header is checked against
the size of the file before it is believed: a wrong header must cost nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol

import numpy as np

from saes.errors import BrokenFile, UnsafeFormat, UnsupportedArchitecture
from saes.formats.base import Folder, Source, TensorSpec
from saes.tensors import BITS, LazyTensor, Stored, to_floats

MAX_HEADER = 16 << 20
MAX_TENSORS = 10_000
MAX_AXES = 8
MAX_NAME = 300
BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
NUMBERS = {
    **{dtype: np.dtype(f"<i{BYTES[dtype]}") for dtype in ("I8", "I16", "I32", "I64")},
    **{dtype: np.dtype(f"<u{BYTES[dtype]}") for dtype in ("U8", "U16", "U32", "U64")},
    **BITS,
}
ZIP = b"PK\x03\x04"


class Content(Protocol):
    """The bytes of one member of a zip: where they lie, asked only when they are wanted."""

    def read(self, source: Source, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of the member."""

    def tensor(self, folder: Folder, member: "Member") -> LazyTensor:
        """The tensor that lies at `member.offset` in it."""


@dataclass(frozen=True)
class Member:
    """One tensor inside a file: its bytes start at `offset`, column by column if `fortran`.

    The offset counts from the beginning of the file, or of the zip's member that holds it.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    fortran: bool = False
    inside: Content | None = None

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * BYTES[self.dtype]


@dataclass(frozen=True)
class Container:
    """A weight file by its header."""

    name: str
    members: Mapping[str, Member]
    metadata: Mapping[str, str] = field(default_factory=dict)
    objects: Mapping[str, Any] = field(default_factory=dict)  # of a torch file: what is no tensor

    @property
    def specs(self) -> list[TensorSpec]:
        return [TensorSpec(name, it.dtype, it.shape) for name, it in sorted(self.members.items())]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: it.shape for name, it in self.members.items()}

    def tensor(self, folder: Folder, name: str) -> LazyTensor:
        member = self.members[name]
        if member.dtype not in BITS:
            raise UnsupportedArchitecture(
                f"`{self.name}`: the tensor {name} is stored as {member.dtype}; "
                f"weights can be {', '.join(BITS)}."
            )
        if not member.nbytes:
            raise broken(self.name, f"holds the tensor {name} without a number in it")
        member = replace(member, shape=member.shape or (1,))
        if member.inside is not None:
            return member.inside.tensor(folder, member)
        path = folder.path(self.name)
        return Stored(path, member.offset, member.dtype, member.shape, member.fortran)

    def scalar(self, source: Source, name: str) -> float | int:
        """The number in a tensor of one element, by a read of its few bytes."""
        member = self.members[name]
        if member.shape not in ((), (1,)) or member.dtype not in NUMBERS:
            raise broken(self.name, f"holds {name}, which should be one number")
        place = member.offset, member.offset + member.nbytes
        if member.inside is not None:
            raw = member.inside.read(source, *place)
        else:
            raw = source.read(self.name, *place)
        return _number(raw, member.dtype)


def _number(raw: bytes, dtype: str) -> float | int:
    if dtype in BITS:
        return float(to_floats(np.frombuffer(raw, BITS[dtype]), dtype)[0])
    return int(np.frombuffer(raw, NUMBERS[dtype])[0])


def is_pickle(first: bytes) -> bool:
    return first[:1] == b"\x80" and first[1:2] in (b"\2", b"\3", b"\4", b"\5")


def broken(file: str, what: str) -> BrokenFile:
    return BrokenFile(f"`{file}` {what}.")


def read_safetensors(source: Source, name: str) -> Container:
    """Two reads: the eight bytes that tell the header's length, and the header."""
    size = source.size(name)
    if size < 8:
        raise broken(name, f"has only {size} bytes: it is not a safetensors file")
    first = source.read(name, 0, 8)
    length = int.from_bytes(first, "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise _not_safetensors(name, first, length)
    text = source.read(name, 8, 8 + length)
    return _parsed(name, text, size - 8 - length)


def _not_safetensors(name: str, first: bytes, length: int) -> BrokenFile | UnsafeFormat:
    if first.startswith(ZIP):
        return UnsafeFormat(
            f"`{name}` is a zip archive (npz or a PyTorch pickle), not safetensors."
        )
    if is_pickle(first):
        return UnsafeFormat(f"`{name}` is a Python pickle under another name. It was not opened.")
    return broken(name, f"is cut off or no safetensors file: its header would be {length:,} bytes")


def _parsed(name: str, text: bytes, data: int) -> Container:
    if text.count(b"{") > MAX_TENSORS:
        raise broken(name, f"tells of more than {MAX_TENSORS:,} tensors")
    entries = parse_json(name, text)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(not isinstance(it, str) for it in metadata.values()):
        raise broken(name, "has a __metadata__ that is not a table of texts")
    places = {tensor: _place(name, tensor, entry) for tensor, entry in entries.items()}
    _check_no_gaps(name, places, data)
    start = 8 + len(text)
    members = {
        tensor: Member(dtype, shape, start + begin)
        for tensor, (dtype, shape, begin, _) in places.items()
    }
    return Container(name, members, metadata)


Place = tuple[str, tuple[int, ...], int, int]


def _place(name: str, tensor: str, entry: Any) -> Place:
    if not tensor or len(tensor) > MAX_NAME or not tensor.isprintable():
        raise broken(name, "has a tensor with an impossible name")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise broken(name, f"describes the tensor {tensor} wrongly")
    dtype, offsets = entry["dtype"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise broken(name, f"gives the tensor {tensor} an unknown dtype")
    shape = checked_shape(name, tensor, entry["shape"])
    if not _whole(offsets) or len(offsets) != 2:
        raise broken(name, f"places the tensor {tensor} wrongly")
    if offsets[1] - offsets[0] != prod(shape) * BYTES[dtype]:
        raise broken(name, f"gives the tensor {tensor} a size that does not fit its shape")
    return dtype, shape, offsets[0], offsets[1]


def checked_shape(name: str, tensor: str, shape: Any) -> tuple[int, ...]:
    if not _whole(shape) or len(shape) > MAX_AXES:
        raise broken(name, f"gives the tensor {tensor} an impossible shape")
    return tuple(shape)


def _whole(numbers: Any) -> bool:
    if not isinstance(numbers, Sequence) or isinstance(numbers, str):
        return False
    return all(type(number) is int and 0 <= number < 2**63 for number in numbers)


def _check_no_gaps(name: str, places: Mapping[str, Place], data: int) -> None:
    """Tensors must fill the data exactly: no overlap, no gap, nothing behind the last."""
    if not places:
        raise broken(name, "holds no tensor")
    end = 0
    for tensor, (_, _, begin, stop) in sorted(places.items(), key=lambda item: item[1][2:]):
        if begin != end:
            raise broken(name, f"places the tensor {tensor} over another one or after a gap")
        end = stop
    if end != data:
        what = "ends early" if end > data else "has bytes behind its last tensor"
        raise broken(name, f"{what}: its header tells of {end:,} bytes of weights, it has {data:,}")


def parse_json(name: str, text: bytes | str) -> dict[str, Any]:
    """Strict: UTF-8, no key twice, no NaN, one object. RecursionError is how json meets depth."""
    try:
        raw = text.decode() if isinstance(text, bytes) else text
        parsed = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise broken(name, "is not UTF-8 text") from error
    except RecursionError as error:
        raise broken(name, "is nested too deeply") from error
    except ValueError as error:
        raise broken(name, "holds no valid JSON") from error
    if not isinstance(parsed, dict):
        raise broken(name, "should hold one JSON object")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key occurs twice")
    return table


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
