"""Writing a PyTorch checkpoint without PyTorch: the zip of torch >= 1.6, tensor by tensor.

The pickle is written by hand: it names what torch is to call and holds no object of ours. Members
are stored, not compressed, and their numbers lie at multiples of 64 bytes, so that torch can map
them into memory.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import pack
from typing import IO

from saes.progress import Reporter
from saes.tensors import LazyTensor, Turner

ALIGNMENT = 64
STORAGES = {
    "F64": "DoubleStorage",
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I32": "IntStorage",
}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same SAE gives the same bytes on every day
LOCAL_HEADER, ZIP64_FIELD, FIELD_HEADER = 30, 20, 4  # bytes, before names and padding
PADDING = b"FB"  # the field that torch itself pads with


@dataclass(frozen=True)
class Number:
    """A tensor of one number and without an axis."""

    value: float
    dtype: str  # F32 or I32

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def bytes(self) -> bytes:
        return pack("<i", self.value) if self.dtype == "I32" else pack("<f", self.value)

    @property
    def nbytes(self) -> int:
        return len(self.bytes)


Written = LazyTensor | Number


def write_pt(path: Path, tensors: Mapping[str, Written], progress: Reporter) -> None:
    """A state dict of these tensors, as torch.save writes it. `path` must not exist."""
    total, done = sum(tensor.nbytes for tensor in tensors.values()), 0
    stem = path.stem
    with zipfile.ZipFile(path, "x") as archive:
        _write_whole(archive, f"{stem}/data.pkl", _pickle(tensors))
        _write_whole(archive, f"{stem}/byteorder", b"little")
        for number, tensor in enumerate(tensors.values()):
            for count in _write_tensor(archive, f"{stem}/data/{number}", tensor):
                done += count
                progress.advance(done, total)
        _write_whole(archive, f"{stem}/version", b"3\n")


def _write_tensor(archive: zipfile.ZipFile, name: str, tensor: Written) -> Iterator[int]:
    with _opened(archive, name, tensor.nbytes) as member:
        for panel in _panels(tensor):
            yield member.write(panel.cast("B"))


def _panels(tensor: Written) -> Iterator[memoryview]:
    if isinstance(tensor, Number):
        yield memoryview(tensor.bytes)
        return
    turn, rest = Turner(), [slice(0, length) for length in tensor.shape[1:]]
    for rows in tensor.panels():
        bits = tensor.block(rows, *rest)
        yield (bits if bits.flags.c_contiguous else turn(bits)).data


def _write_whole(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    with _opened(archive, name, len(content)) as member:
        member.write(content)


def _opened(archive: zipfile.ZipFile, name: str, size: int) -> IO[bytes]:
    """Padded so that the member's bytes begin at a multiple of 64. zipfile adds sizes and sum."""
    entry, wide = zipfile.ZipInfo(name, EPOCH), size > zipfile.ZIP64_LIMIT
    header = LOCAL_HEADER + len(name) + FIELD_HEADER + (ZIP64_FIELD if wide else 0)
    padding = -(archive.start_dir + header) % ALIGNMENT
    entry.extra = PADDING + pack("<H", padding) + b"Z" * padding
    return archive.open(entry, "w", force_zip64=wide)


# --- the pickle: an OrderedDict of names and tensors, in the instructions of protocol 2 -----------

START, STOP, MARK, TUPLE, CALL = b"\x80\x02", b".", b"(", b"t", b"R"
PERSISTENT, FALSE, SET_ITEMS = b"Q", b"\x89", b"u"
NO_HOOKS = b"ccollections\nOrderedDict\n)R"  # a call without arguments
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def _pickle(tensors: Mapping[str, Written]) -> bytes:
    items = [
        _text(name) + _tensor(str(number), tensor)
        for number, (name, tensor) in enumerate(tensors.items())
    ]
    return b"".join([START, NO_HOOKS, MARK, *items, SET_ITEMS, STOP])


def _tensor(key: str, tensor: Written) -> bytes:
    """The call that makes it: storage, offset, shape, strides, needs no gradient, no hooks."""
    strides = [prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape))]
    arguments = [_storage(key, tensor), _whole(0), _wholes(tensor.shape), _wholes(strides)]
    return REBUILD + MARK + b"".join(arguments) + FALSE + NO_HOOKS + TUPLE + CALL


def _storage(key: str, tensor: Written) -> bytes:
    kind = f"ctorch\n{STORAGES[tensor.dtype]}\n".encode()
    place = [_text("storage"), kind, _text(key), _text("cpu"), _whole(prod(tensor.shape))]
    return MARK + b"".join(place) + TUPLE + PERSISTENT


def _text(text: str) -> bytes:
    return b"X" + pack("<I", len(text.encode())) + text.encode()


def _wholes(numbers: Sequence[int]) -> bytes:
    return MARK + b"".join(map(_whole, numbers)) + TUPLE


def _whole(number: int) -> bytes:
    return b"J" + pack("<i", number) if number < 1 << 31 else b"\x8a\x08" + pack("<q", number)
