"""The bytes of a file or of a zip of files, from anywhere to anywhere, in small pieces.

Files are opened once and held: what replaces them on disk meanwhile changes nothing of a download.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from zipstream import ZipStream

from saes import services
from saes.bundles import Bundle
from saes.errors import DataMissing
from saes.models import SaeFile

PIECE = 1 << 19
DATE = (1980, 1, 1, 0, 0, 0)  # of everything in a zip: the same files are the same bytes
DOS_DATE = bytes((0, 0, 0x21, 0))  # this date in the header of a zip's member
DATE_AT = slice(10, 14)


class Content(Protocol):
    name: str  # for whoever saves it
    media_type: str
    etag: str
    size: int

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop); empty pieces while it works its way to them."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class _Held:
    """An open file of as many bytes as were recorded."""

    name: str
    descriptor: int
    size: int

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        while start < stop:
            piece = os.pread(self.descriptor, min(PIECE, stop - start), start)
            if not piece:
                raise DataMissing(f"`{self.name}` became shorter while it was read.")
            yield piece
            start += len(piece)


class OneFile:
    """One file of a bundle, `row` of its files. Raises DataMissing."""

    media_type = "application/octet-stream"

    def __init__(self, row: SaeFile) -> None:
        self._open = ExitStack()
        self._file = _held(row, row.path, self._open)
        self.name = PurePosixPath(row.path).name
        self.etag, self.size = f'"{row.sha256}"', row.size

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        return self._file.pieces(start, stop)

    def close(self) -> None:
        self._open.close()


class Zip:
    """Every file of a bundle, not compressed: weights do not shrink. Raises DataMissing."""

    media_type = "application/zip"

    def __init__(self, bundle: Bundle) -> None:
        with ExitStack() as opened:
            self._files = [
                _held(row, f"{bundle.stem}/{name}", opened) for name, row in bundle.files.items()
            ]
            self._open = opened.pop_all()
        self.name = f"{bundle.stem}.zip"
        self.etag, self.size = f'"zip-{bundle.digest}"', len(self._zip())

    def _zip(self) -> ZipStream:
        made = _Dateless(sized=True)
        for file in self._files:
            made.add(file.pieces(0, file.size), file.name, size=file.size)
        return made

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """A zip ends with sums over all of it, so it is made from the beginning, always."""
        at = 0
        for piece in self._zip():
            yield piece[max(start - at, 0) : max(stop - at, 0)]
            at += len(piece)
            if at >= stop:
                return

    def close(self) -> None:
        self._open.close()


class _Dateless(ZipStream):  # type: ignore[misc]  # ships no types
    """It would write the present time into each member."""

    def _gen_file_entry(self, **entry: Any) -> Iterator[bytes]:
        pieces = super()._gen_file_entry(**entry)
        header = bytearray(next(pieces))
        header[DATE_AT] = DOS_DATE
        yield bytes(header)
        yield from pieces
        self._filelist[-1].date_time = DATE


def _held(row: SaeFile, name: str, opened: ExitStack) -> _Held:
    """Raises DataMissing before a byte is sent, where the file is not as it was recorded."""
    try:
        descriptor = _open_below(services.library().home(row.sae_id), row.path)
    except OSError as error:
        raise DataMissing(f"`{row.path}` is not there, or is no plain file.") from error
    opened.callback(os.close, descriptor)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size != row.size:
        opened.close()
        raise DataMissing(f"`{row.path}` is not as it was recorded.")
    return _Held(name, descriptor, row.size)


def _open_below(home: Path, path: str) -> int:
    """Open a recorded path, following no link in any part of it."""
    *folders, base = PurePosixPath(path).parts
    here = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        # Without NONBLOCK, opening a pipe that somebody put there would wait for its writer.
        return os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    finally:
        os.close(here)
