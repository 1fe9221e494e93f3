"""npz headers: the zip's table of contents and each array's own header, by ranged reads."""

import ast
import re
from collections.abc import Mapping
from math import prod
from typing import Any

from saes.errors import UnsafeFormat
from saes.formats.base import Source
from saes.formats.files.containers import BYTES, Container, Member, broken, checked_shape
from saes.formats.files.inflate import ZipContent, beginning
from saes.formats.files.zips import Entry, read_zip

NPY = b"\x93NUMPY"
MAX_ARRAY_HEADER = 4096
NUMPY_HEADER = 128  # numpy pads its header to a multiple of 64; for a plain array that is 128
GOOD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,200}\.npy", re.ASCII)
WORDS = {
    "<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<i4": "I32", "<i2": "I16",
    "|i1": "I8", "|u1": "U8", "|b1": "BOOL", "<u8": "U64", "<u4": "U32", "<u2": "U16",
}  # fmt: skip


def read_npz(source: Source, name: str) -> Container:
    return npz_of(source, name, read_zip(source, name))


def npz_of(source: Source, name: str, entries: Mapping[str, Entry]) -> Container:
    for entry in entries.values():
        if entry.name.endswith(".pkl"):
            raise UnsafeFormat(f"`{name}` is a PyTorch pickle, no npz file. It was not opened.")
        if not GOOD_NAME.fullmatch(entry.name):
            raise broken(name, "holds an array with an impossible name")
    members = {
        array.removesuffix(".npy"): _member(source, entry) for array, entry in entries.items()
    }
    return Container(name, members)


def _member(source: Source, entry: Entry) -> Member:
    if entry.size < 10:
        raise broken(entry.file, f"holds {entry.name}, which is no numpy array")
    head = _array_header(source, entry)
    dtype, shape, fortran = _described(entry.file, entry.name, head)
    if len(head) + prod(shape) * BYTES[dtype] != entry.size:
        raise broken(entry.file, f"gives {entry.name} a size that does not fit its shape")
    return Member(dtype, shape, len(head), fortran, ZipContent(entry))


def _array_header(source: Source, entry: Entry) -> bytes:
    if entry.deflated:
        head = beginning(source, entry, min(entry.size, MAX_ARRAY_HEADER))
        return head[: _header_length(entry, head)]
    start = entry.likely_content(source)
    # Never a byte further than the header: old numpy padded it to 16, which the size shows.
    first = 10 if entry.size % 64 or entry.size < NUMPY_HEADER else NUMPY_HEADER
    head = source.read(entry.file, start, start + first)
    if head[6:7] in (b"\2", b"\3") and len(head) < 12:
        head += source.read(entry.file, start + len(head), start + 12)
    length = _header_length(entry, head)
    if length > len(head):
        head += source.read(entry.file, start + len(head), start + length)
    return head[:length]


def _header_length(entry: Entry, head: bytes) -> int:
    if not head.startswith(NPY) or head[6] not in (1, 2, 3):
        raise broken(entry.file, f"holds {entry.name}, no numpy array where it should lie")
    start = 10 if head[6] == 1 else 12
    length = start + int.from_bytes(head[8:start], "little")
    if length > min(entry.size, MAX_ARRAY_HEADER):
        raise broken(entry.file, f"holds {entry.name} with a header that is too long")
    return length


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
