"""A zip that somebody uploaded as a Source: its members by name, read where they lie.

Nothing is unpacked here. Whoever copies a member gets its bytes one after another, never more than
the table of contents declares, and learns of a wrong checksum at the end.
"""

import io
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO

from saes.errors import CannotLink, PackedTooDeep, PathNotFound
from saes.formats.base import LEVELS_ABOVE, ROOT, Tree, parent
from saes.formats.files.containers import broken
from saes.formats.files.inflate import CHUNK, MAX_BEGINNING, beginning, inflated
from saes.formats.files.zips import Entry, read_zip
from saes.formats.folder import FolderSource
from saes.safe_names import refuse_unsafe

SHALLOW = 1 << 20  # bytes: where headers end that are no large ones


class ArchiveSource(FolderSource):
    """`zip` is the archive's name in the folder `root`; all other names are those of its members.

    Only what lies at `place` is looked for, or beside it where that is a file. Raises PathNotFound,
    and BrokenFile, TooLarge, UnsafeName where any member is none that may be unpacked.
    """

    def __init__(
        self, root: Path | str, zip: str, repo_id: str | None = None, place: str = ROOT
    ) -> None:
        super().__init__(root, repo_id)
        self._zip, self._files = zip, FolderSource(root)
        entries = read_zip(self._files, zip)
        self._members = {name: it for name, it in entries.items() if not name.endswith("/")}
        refuse_unsafe(self._members)
        _refuse_files_as_folders(zip, self._members)
        self.below = parent(place) if place in self._members else place
        self._begun = ("", b"")  # a compressed member and its first bytes, for the next read
        if not self.tree.names:
            raise PathNotFound(f"There is no `{place[:200]}` in {zip}.")

    @cached_property
    def tree(self) -> Tree:
        inner = f"{self.below}/"
        names = [it for it in self._members if self.below == ROOT or it.startswith(inner)]
        return Tree([*names, *(self._above() if names else [])], self.repo_id)

    def _above(self) -> list[str]:
        folders, folder = set[str](), self.below
        for _ in range(LEVELS_ABOVE):
            if folder != ROOT:
                folder = parent(folder)
                folders.add(folder)
        return [it for it in self._members if parent(it) in folders]

    def path(self, name: str) -> Path:
        raise CannotLink(f"`{name}` lies in a zip archive.")

    def size(self, name: str) -> int:
        return self._entry(name).size

    def state(self, name: str) -> str:
        entry = self._entry(name)
        return f"{self._files.state(self._zip)} {entry.crc} {entry.size}"

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Raises PackedTooDeep for what lies far inside a compressed member."""
        entry = self._entry(name)
        if stop > entry.size:
            raise broken(name, f"ends early: it has no byte {stop - 1:,}")
        if not entry.deflated:
            begin = entry.content(self._files)
            return self._files.read(self._zip, begin + start, begin + stop)
        if stop > MAX_BEGINNING:
            raise PackedTooDeep(f"`{name}` is compressed: it is looked at when it is unpacked.")
        return self._beginning(entry, stop)[start:stop]

    def _beginning(self, entry: Entry, length: int) -> bytes:
        name, begun = self._begun
        if name != entry.name or len(begun) < length:
            most = SHALLOW if length <= SHALLOW else MAX_BEGINNING
            begun = beginning(self._files, entry, min(entry.size, most))
            self._begun = entry.name, begun
        return begun

    def open(self, name: str) -> IO[bytes]:
        return io.BufferedReader(_Member(self._files, self._entry(name)), CHUNK)

    def _entry(self, name: str) -> Entry:
        entry = self._members.get(name)
        if entry is None:
            raise PathNotFound(f"`{name}` is not there.")
        return entry


def _refuse_files_as_folders(zip: str, members: Mapping[str, Entry]) -> None:
    """Such as `a` beside `a/b`, also where they differ in case only. Raises BrokenFile."""
    files = {name.casefold() for name in members}
    for name in members:
        above = name.casefold()
        while above := above.rpartition("/")[0]:
            if above in files:
                raise broken(zip, f"holds {name} inside of what is a file")


class _Member(io.RawIOBase):
    """The bytes of one member, in order."""

    def __init__(self, source: FolderSource, entry: Entry) -> None:
        self._pieces, self._left = _pieces(source, entry), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _pieces(source: FolderSource, entry: Entry) -> Iterator[bytes]:
    """None is empty. Raises BrokenFile where size or checksum are not the declared ones."""
    crc = 0
    for piece in inflated(source, entry, CHUNK) if entry.deflated else _stored(source, entry):
        crc = zlib.crc32(piece, crc)
        if piece:
            yield piece
    if crc != entry.crc:
        raise broken(entry.file, f"holds {entry.name} with a wrong checksum")


def _stored(source: FolderSource, entry: Entry) -> Iterator[bytes]:
    begin = entry.content(source)
    for at in range(begin, begin + entry.size, CHUNK):
        yield source.read(entry.file, at, min(at + CHUNK, begin + entry.size))
