"""npz headers: the zip's central directory and each array's own header, by ranged reads.

Only stored members: where each array lies then follows from the directory alone.
"""

import ast
import re
from dataclasses import dataclass
from math import prod
from typing import Any

from saes.errors import BrokenFile, UnsafeFormat
from saes.formats.base import Source
from saes.formats.containers import (
    BYTES,
    MAX_TENSORS,
    ZIP,
    Container,
    Member,
    broken,
    checked_shape,
)

END, ENTRY, LOCAL, NPY = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04", b"\x93NUMPY"
END64, LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"
END_SIZE, ENTRY_SIZE, LOCAL_SIZE = 22, 46, 30
MAX_DIRECTORY = 4 << 20
MAX_ARRAY_HEADER = 4096
NUMPY_HEADER = 128  # numpy pads its header to a multiple of 64; for a plain array that is 128
GOOD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,200}\.npy", re.ASCII)
WORDS = {
    "<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<i4": "I32", "<i2": "I16",
    "|i1": "I8", "|u1": "U8", "|b1": "BOOL", "<u8": "U64", "<u4": "U32", "<u2": "U16",
}  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    start: int  # of its local header


def read_npz(source: Source, name: str) -> Container:
    size = source.size(name)
    if size < END_SIZE:
        raise broken(name, f"has only {size} bytes: it is not an npz file")
    end = _end(source, name, size)
    entries, directory = _entries(source, name, end)
    stops = [entry.start for entry in entries[1:]] + [directory]
    members = {
        entry.name.removesuffix(".npy"): _member(source, name, entry, stop)
        for entry, stop in zip(entries, stops, strict=True)
    }
    return Container(name, members)


def _number(data: bytes, start: int, width: int) -> int:
    return int.from_bytes(data[start : start + width], "little")


@dataclass(frozen=True)
class _End:
    """Where the central directory lies, and how many entries it has."""

    start: int
    size: int
    count: int


def _end(source: Source, name: str, size: int) -> _End:
    at = size - END_SIZE
    tail = source.read(name, at, size)
    if not tail.startswith(END) or tail[20:] != b"\0\0":
        at, tail = _end_before_comment(source, name, size)
    end = _End(_number(tail, 16, 4), _number(tail, 12, 4), _number(tail, 10, 2))
    if end.start == 0xFFFFFFFF or end.count == 0xFFFF or end.size == 0xFFFFFFFF:
        end, at = _end64(source, name, at)
    if end.start + end.size != at or not 0 < end.count <= MAX_TENSORS or end.size > MAX_DIRECTORY:
        raise broken(name, "has a damaged table of contents")
    return end


def _end_before_comment(source: Source, name: str, size: int) -> tuple[int, bytes]:
    if source.read(name, 0, 4) != ZIP:
        raise _not_npz(name, source.read(name, 0, 2))
    start = max(0, size - END_SIZE - 0xFFFF)
    tail = source.read(name, start, size)
    found = tail.rfind(END)
    if found < 0 or found + END_SIZE + _number(tail, found + 20, 2) != len(tail):
        raise broken(name, "is cut off: its table of contents is missing")
    return start + found, tail[found : found + END_SIZE]


def _not_npz(name: str, first: bytes) -> BrokenFile | UnsafeFormat:
    if first[0] == 0x80 and first[1] in range(2, 6):
        return UnsafeFormat(f"`{name}` is a Python pickle under another name. It was not opened.")
    return broken(name, "is no npz file")


def _end64(source: Source, name: str, at: int) -> tuple[_End, int]:
    locator = source.read(name, max(0, at - 20), at)
    start = _number(locator, 8, 8)
    if not locator.startswith(LOCATOR64) or start + 56 > at:
        raise broken(name, "has a damaged table of contents")
    record = source.read(name, start, start + 56)
    if not record.startswith(END64):
        raise broken(name, "has a damaged table of contents")
    return _End(_number(record, 48, 8), _number(record, 40, 8), _number(record, 32, 8)), start


def _entries(source: Source, name: str, end: _End) -> tuple[list[_Entry], int]:
    directory = source.read(name, end.start, end.start + end.size)
    entries, at = list[_Entry](), 0
    while at < len(directory) and len(entries) < end.count:
        entry, at = _entry(name, directory, at)
        entries.append(entry)
    if at != len(directory) or len(entries) != end.count:
        raise broken(name, "has a damaged table of contents")
    if len({entry.name for entry in entries}) != len(entries):
        raise broken(name, "holds two arrays of the same name")
    return sorted(entries, key=lambda entry: entry.start), end.start


def _entry(name: str, directory: bytes, at: int) -> tuple[_Entry, int]:
    head = directory[at : at + ENTRY_SIZE]
    if len(head) < ENTRY_SIZE or not head.startswith(ENTRY):
        raise broken(name, "has a damaged table of contents")
    lengths = [_number(head, start, 2) for start in (28, 30, 32)]
    names, extra = at + ENTRY_SIZE, at + ENTRY_SIZE + lengths[0]
    array = directory[names:extra].decode("utf-8", "replace")
    if array.endswith(".pkl"):
        raise UnsafeFormat(f"`{name}` is a PyTorch pickle under another name. It was not opened.")
    if not GOOD_NAME.fullmatch(array):
        raise broken(name, "holds an array with an impossible name")
    if _number(head, 8, 2) & 1:
        raise broken(name, f"holds {array} encrypted")
    sizes = _sizes(head, directory[extra : extra + lengths[1]])
    if _number(head, 10, 2) != 0 or sizes[0] != sizes[1]:
        raise broken(name, f"holds {array} compressed, which is not supported yet")
    return _Entry(array, sizes[0], sizes[2]), at + ENTRY_SIZE + sum(lengths)


def _sizes(head: bytes, extra: bytes) -> list[int]:
    """Plain size, stored size, place: in zip64's extra field where four bytes do not hold them."""
    sizes = [_number(head, start, 4) for start in (24, 20, 42)]
    wide = _zip64_field(extra)
    for position, size in enumerate(sizes):
        if size == 0xFFFFFFFF and len(wide) >= 8:
            sizes[position], wide = _number(wide, 0, 8), wide[8:]
    return sizes


def _zip64_field(extra: bytes) -> bytes:
    while len(extra) >= 4:
        length = _number(extra, 2, 2)
        if _number(extra, 0, 2) == 1:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _member(source: Source, name: str, entry: _Entry, stop: int) -> Member:
    start = stop - entry.size
    if start < entry.start + LOCAL_SIZE + len(entry.name) or entry.size < 10:
        raise broken(name, f"places {entry.name} over another array")
    head = _array_header(source, name, entry, start)
    dtype, shape, fortran = _described(name, entry.name, head)
    if len(head) + prod(shape) * BYTES[dtype] != entry.size:
        raise broken(name, f"gives {entry.name} a size that does not fit its shape")
    return Member(dtype, shape, start + len(head), fortran)


def _array_header(source: Source, name: str, entry: _Entry, start: int) -> bytes:
    """Never a byte further than the header: old numpy padded it to 16, which the size shows."""
    first = 10 if entry.size % 64 or entry.size < NUMPY_HEADER else NUMPY_HEADER
    head = source.read(name, start, start + first)
    if not head.startswith(NPY) or head[6] not in (1, 2, 3):
        raise broken(name, f"holds {entry.name}, which is no numpy array where it should lie")
    width = 2 if head[6] == 1 else 4
    if len(head) < 8 + width:
        head += source.read(name, start + len(head), start + 8 + width)
    length = 8 + width + _number(head, 8, width)
    if length > min(entry.size, MAX_ARRAY_HEADER):
        raise broken(name, f"holds {entry.name} with a header that is too long")
    if length > len(head):
        head += source.read(name, start + len(head), start + length)
    return head[:length]


def _described(name: str, array: str, head: bytes) -> tuple[str, tuple[int, ...], bool]:
    text = head[10 if head[6] == 1 else 12 :]
    try:
        told: Any = ast.literal_eval(text.decode("utf-8").strip())
        descr, fortran, shape = told["descr"], told["fortran_order"], told["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise broken(name, f"holds {array} with an unreadable header") from error
    if "O" in str(descr):
        raise UnsafeFormat(f"`{name}`: {array} holds Python objects (a pickle). It was not opened.")
    if not isinstance(descr, str) or descr not in WORDS or type(fortran) is not bool:
        raise broken(name, f"holds {array} with the unknown dtype {str(descr)[:20]}")
    return WORDS[descr], checked_shape(name, array, shape), fortran
