"""Part files: the bytes of one file as far as they came, written by several connections at once.

`<oid>` holds the bytes at their final places, `<oid>.pieces` how many of each piece are there. That
is written after the bytes: a process may be killed at any point, and nothing is fetched twice.
"""

import hashlib
import os
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from saes import growing
from saes.errors import DiskFull, HashMismatch
from saes.progress import Stopped
from saes.storage import CHUNK, Expected, Written, disk_errors, sync

PIECE = 32 * 2**20  # what one connection fetches at a time
FLOOR = 32 * 2**20  # bytes of the disk that are left to the database, whatever happens
_COUNT = struct.Struct("<Q")


@dataclass(frozen=True)
class Piece:
    """Bytes [start, stop) of a file."""

    number: int
    start: int
    stop: int


class PartFile:
    """It is named by the hash it must have: a file that changed on the Hub starts a new part.

    It has no close(): a connection that was given up may hold it for some seconds more.
    """

    def __init__(self, path: Path, expected: Expected) -> None:
        self.path, self.expected = path, expected
        self.pieces = [
            Piece(number, start, min(start + PIECE, expected.size))
            for number, start in enumerate(range(0, expected.size, PIECE))
        ]
        self._record = path.with_name(path.name + ".pieces")
        with disk_errors():
            self._data, self._notes = _opened(self, path), _opened(self, self._record)
            self._counts = self._counted()
            self._note_all()
            os.ftruncate(self._data, expected.size)  # readers see it as long as it will be
        self._start_hashing()

    def _counted(self) -> list[int]:
        """How much of each piece is there, as far as the file reaches."""
        length = os.fstat(self._data).st_size
        if length > self.expected.size:
            os.truncate(self._data, 0)
            length = 0
        reaches = [max(0, min(it.stop, length) - it.start) for it in self.pieces]
        return [min(*pair) for pair in zip(reaches, self._noted(), strict=True)]

    def _noted(self) -> list[int]:
        """The record as it was left; nothing where there is none, or one of other pieces."""
        nothing = [0] * len(self.pieces)
        whole = _COUNT.size * (len(self.pieces) + 1)
        noted = os.pread(self._notes, whole + 1, 0)
        if len(noted) != whole:
            return nothing
        size, *counts = (number for (number,) in _COUNT.iter_unpack(noted))
        return counts if size == PIECE else nothing

    def _note_all(self) -> None:
        numbers = (PIECE, *self._counts)
        os.pwrite(self._notes, b"".join(_COUNT.pack(number) for number in numbers), 0)

    # --- writing ---------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return sum(self._counts)

    def has(self, start: int, stop: int) -> bool:
        """Whether these bytes are there."""
        touched = self.pieces[start // PIECE : -(-stop // PIECE)]
        return all(it.start + self._counts[it.number] >= min(stop, it.stop) for it in touched)

    @contextmanager
    def announced(self, over: threading.Event) -> Iterator[None]:
        """Readers of the file wait for the bytes that they want, until it is `over`."""

        def has(start: int, stop: int) -> bool:
            if over.is_set():
                raise Stopped
            return self.has(start, stop)

        with growing.announced(self._data, has):
            yield

    def missing(self) -> list[Piece]:
        """What is still to be fetched of each piece."""
        gone_on = ((it, it.start + self._counts[it.number]) for it in self.pieces)
        return [Piece(it.number, start, it.stop) for it, start in gone_on if start < it.stop]

    def write(self, number: int, chunk: bytes) -> None:
        """The next bytes of a piece. One connection at a time writes a piece. Raises DiskFull."""
        piece, count = self.pieces[number], self._counts[number]
        with disk_errors():
            refuse_last_bytes(self._data, len(chunk))
            _write_all(self._data, chunk, piece.start + count)
            self._counts[number] = count + len(chunk)
            os.pwrite(self._notes, _COUNT.pack(count + len(chunk)), _COUNT.size * (number + 1))

    # --- hashing what has come -------------------------------------------------------------------

    def _start_hashing(self) -> None:
        self._sha256 = hashlib.sha256()
        self._git_sha1 = hashlib.sha1(
            f"blob {self.expected.size}\0".encode(), usedforsecurity=False
        )
        self.hashed = 0

    def hash_some(self) -> bool:
        """Hash a little of what has come without a gap. False where there is nothing to do now."""
        with disk_errors():
            chunk = os.pread(self._data, min(CHUNK, self._front() - self.hashed), self.hashed)
        self._sha256.update(chunk)
        if self.expected.git_sha1:
            self._git_sha1.update(chunk)
        self.hashed += len(chunk)
        return bool(chunk)

    def _front(self) -> int:
        """Where the first gap begins."""
        at = self.hashed // PIECE
        while at < len(self.pieces) and self._is_whole(self.pieces[at]):
            at += 1
        return self.expected.size if at == len(self.pieces) else at * PIECE + self._counts[at]

    def _is_whole(self, piece: Piece) -> bool:
        return self._counts[piece.number] == piece.stop - piece.start

    def flush(self) -> None:
        """To the disk, so that little is left to do at the end."""
        with disk_errors():
            os.fdatasync(self._data)

    def publish(self, target: Path) -> Written:
        """Check the hash, flush to disk, rename. Raises HashMismatch; the bytes are gone then."""
        while self.hash_some():
            pass
        digest = self._sha256.hexdigest()
        actual = digest if self.expected.sha256 else self._git_sha1.hexdigest()
        on_disk = os.fstat(self._data).st_size
        if not on_disk == self.hashed == self.expected.size or actual != self.expected.oid:
            self.drop()
            raise HashMismatch(f"{target.name}: the bytes that came are not those of the Hub.")
        with disk_errors():
            os.fsync(self._data)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.path.rename(target)
            self._record.unlink(missing_ok=True)
            sync(target.parent)
        return Written(target, self.hashed, digest)

    def drop(self) -> None:
        discard(self.path.parent, self.expected)


def _opened(part: PartFile, path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    weakref.finalize(part, os.close, descriptor)
    return descriptor


def _write_all(descriptor: int, chunk: bytes, at: int) -> None:
    left = memoryview(chunk)
    while left:
        written = os.pwrite(descriptor, left, at)
        left, at = left[written:], at + written


def refuse_last_bytes(descriptor: int, more: int) -> None:
    """Raises DiskFull before the disk is so full that the database could not write either."""
    disk = os.fstatvfs(descriptor)
    if disk.f_bavail * disk.f_frsize - more < FLOOR:
        raise DiskFull(
            f"The disk is full: {FLOOR >> 20} MB are left for the database. "
            "What was downloaded so far is kept."
        )


def discard(folder: Path, expected: Expected) -> None:
    """The part of a file that is not needed any more, if there is one."""
    for name in (expected.oid, f"{expected.oid}.pieces"):
        (folder / name).unlink(missing_ok=True)


def held_in(folder: Path) -> int:
    """Bytes that the part files of a folder hold, by their records."""
    records = folder.glob("*.pieces") if folder.is_dir() else ()
    noted = (list(_COUNT.iter_unpack(record.read_bytes())) for record in records)
    return sum(count for numbers in noted for (count,) in numbers[1:])


def open_part(folder: Path, expected: Expected) -> PartFile:
    """The part of this file in a folder of parts, with all that earlier attempts left of it."""
    with disk_errors():
        folder.mkdir(exist_ok=True)
    return PartFile(folder / expected.oid, expected)
