"""The bytes of one member of a zip: read where they lie, or inflated when they are compressed.

Compressed weights go to a temporary file that has no name, under the sizes that the table of
contents declares, and only when a weight is wanted.
"""

import errno
import mmap
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from saes.errors import DiskFull, TooLarge
from saes.formats.base import Folder, Source
from saes.formats.files.containers import Member, broken
from saes.formats.files.zips import LOCAL_SIZE, Entry
from saes.tensors import BITS, Bits, LazyTensor, Stored

CHUNK = 1 << 20
MAX_LOCAL = LOCAL_SIZE + 2 * 0xFFFF  # a member's own header at its longest
MAX_BEGINNING = 16 << 20
FIRST = 4096  # enough for the header of an array


class ZipContent:
    """One member's bytes. Tensors that lie in the same member share what is inflated."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._unpacked: mmap.mmap | None = None

    def read(self, source: Source, start: int, stop: int) -> bytes:
        if self.entry.deflated:
            return beginning(source, self.entry, stop)[start:]
        begin = self.entry.content(source)
        return source.read(self.entry.file, begin + start, begin + stop)

    def tensor(self, folder: Folder, member: Member) -> LazyTensor:
        if self.entry.deflated:
            return Inflated(self, folder, member)
        path, begin = folder.path(self.entry.file), self.entry.content(folder)
        return Stored(path, begin + member.offset, member.dtype, member.shape, member.fortran)

    def unpacked(self, folder: Folder) -> mmap.mmap:
        if self._unpacked is None:
            self._unpacked = _unpack(folder, self.entry)
        return self._unpacked


class Inflated(LazyTensor):
    """Inflated on the first look."""

    def __init__(self, content: ZipContent, folder: Folder, member: Member) -> None:
        super().__init__(member.shape, member.dtype)
        self._content, self._folder, self._member = content, folder, member

    def block(self, *index: slice) -> Bits:
        order: Literal["F", "C"] = "F" if self._member.fortran else "C"
        unpacked, offset = self._content.unpacked(self._folder), self._member.offset
        bits: Bits = np.ndarray(self.shape, BITS[self.dtype], unpacked, offset=offset, order=order)
        return bits[index]


def beginning(source: Source, entry: Entry, length: int) -> bytes:
    """The member's first bytes; no more is inflated than is asked for."""
    if length > MAX_BEGINNING:
        raise TooLarge(f"`{entry.file}`: a value lies too deep inside {entry.name}, compressed.")
    found = bytearray()
    for piece in inflated(source, entry, max(length, 1)):
        found += piece
        if len(found) >= length:
            return bytes(found[:length])
    raise broken(entry.file, f"holds {entry.name}, which ends early")


def whole(source: Source, entry: Entry) -> bytes:
    """All of a small member, by one read. torch can be told to write 0 instead of checksums."""
    stop = min(entry.stop, entry.start + entry.stored + MAX_LOCAL)
    read = source.read(entry.file, entry.start, stop)
    begin = entry.content_in(read) - entry.start
    data = read[begin : begin + entry.stored]
    if entry.deflated:
        data = _piece(zlib.decompressobj(-zlib.MAX_WBITS), data, entry.size + 1, entry)
    if len(data) != entry.size or entry.crc not in (0, zlib.crc32(data)):
        raise broken(entry.file, f"holds {entry.name} with a wrong checksum or size")
    return data


def inflated(source: Source, entry: Entry, most: int) -> Iterator[bytes]:
    """Pieces of at most `most` bytes. Never beyond the size that the table of contents declares."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    at = entry.content(source)
    stop, step, count, piece = at + entry.stored, FIRST, 0, b""
    while not inflater.eof and count <= entry.size:
        packed = inflater.unconsumed_tail
        if not packed:
            packed = source.read(entry.file, at, min(at + step, stop)) if at < stop else b""
            at, step = at + len(packed), CHUNK
        piece = _piece(inflater, packed, most, entry)
        if not packed and not piece:
            break
        count += len(piece)
        yield piece
    if not inflater.eof or count != entry.size or at != stop or inflater.unused_data:
        raise broken(entry.file, f"holds {entry.name} with a wrong size")


def _piece(inflater: Any, packed: bytes, most: int, entry: Entry) -> bytes:
    try:
        piece: bytes = inflater.decompress(packed, most)
    except zlib.error as error:
        raise broken(entry.file, f"holds {entry.name}, which cannot be decompressed") from error
    return piece


def _unpack(folder: Folder, entry: Entry) -> mmap.mmap:
    """Into a file that has no name, so that nothing is left behind however the process ends."""
    crc = 0
    with unnamed_file(folder.path(entry.file).parent, entry) as file:
        try:
            for piece in inflated(folder, entry, CHUNK):
                crc = zlib.crc32(piece, crc)
                file.write(piece)
            file.flush()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise _full(entry) from error
        if crc != entry.crc:
            raise broken(entry.file, f"holds {entry.name} with a wrong checksum")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def unnamed_file(beside: Path, entry: Entry) -> IO[bytes]:
    """Where TMPDIR says, else beside the weights, else /var/tmp: /tmp is often kept in memory."""
    told = os.environ.get("TMPDIR")
    for folder in (told, beside, "/var/tmp"):
        if folder and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > entry.size:
            return tempfile.TemporaryFile(dir=folder)
    raise _full(entry)


def _full(entry: Entry) -> DiskFull:
    return DiskFull(
        f"`{entry.file}` is compressed: unpacking {entry.name} takes {entry.size:,} bytes of disk."
    )
