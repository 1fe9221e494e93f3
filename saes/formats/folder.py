"""A folder on this machine as a Source. Links are followed only where they stay inside."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO

from saes import growing
from saes.errors import BrokenFile, ConfigNotFound, DataMissing, PathNotFound, TooLarge, UnsafeName
from saes.formats.base import LEVELS_ABOVE, ROOT, Tree, parent

MAX_TEXT = 1 << 20
MOST_FILES = 200_000


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    """What the disk refuses: rights that are missing, sectors that are damaged."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno or errno.EIO).lower()
        raise DataMissing(
            f"`{name}` cannot be read: {why}.",
            solution="Check the disk, and that the server's user may read the file.",
        ) from error


class FolderSource:
    """`within` is the folder that links may point into: the folder itself unless said otherwise.

    `below`: names are those of the whole folder, but only what lies there is looked for; and the
    files of the folders above it, where a run may have left its configuration.
    """

    def __init__(
        self,
        root: Path | str,
        repo_id: str | None = None,
        within: Path | None = None,
        below: str = ROOT,
    ) -> None:
        self.root = Path(root).resolve()
        self.repo_id = repo_id
        self._within = within.resolve() if within else self.root
        self.below = below
        self.left_out: list[str] = []  # links that lead out, and what is no file; after `tree`
        with _in_words(self.root.name):
            if not self.root.is_dir():
                raise DataMissing(f"The folder `{self.root.name}` is not there.")

    @cached_property
    def tree(self) -> Tree:
        return Tree(self._names(), self.repo_id)

    def path(self, name: str) -> Path:
        """The file, links resolved. Raises UnsafeName where it lies outside."""
        try:
            path = (self.root / name).resolve()
        except RuntimeError as error:
            raise PathNotFound(f"`{name[:200]}` is a link that goes round.") from error
        if not path.is_relative_to(self._within):
            raise UnsafeName(f"`{name}` leads out of its folder.")
        return path

    def size(self, name: str) -> int:
        with _in_words(name):
            try:
                found = self.path(name).stat()
            except (FileNotFoundError, NotADirectoryError) as error:
                raise PathNotFound(f"`{name}` is not there.") from error
        if not stat.S_ISREG(found.st_mode):
            raise BrokenFile(f"`{name}` is not a file.")
        return found.st_size

    def text(self, name: str) -> str:
        try:
            size = self.size(name)
        except PathNotFound as error:
            raise ConfigNotFound(f"`{name}` is not there.") from error
        if size > MAX_TEXT:
            raise TooLarge(
                f"`{name}` has {size:,} bytes; a configuration has at most {MAX_TEXT:,}."
            )
        try:
            return self.read(name, 0, size).decode()
        except UnicodeDecodeError as error:
            raise BrokenFile(f"`{name}` is not UTF-8 text.") from error

    def read(self, name: str, start: int, stop: int) -> bytes:
        path = self.path(name)
        self.size(name)
        with self.open(name) as file:
            growing.wait_for(path, start, stop)
            file.seek(start)
            with _in_words(name):
                data = file.read(stop - start)
        if len(data) != stop - start:
            raise BrokenFile(f"`{name}` ends early: it has no byte {stop - 1:,}.")
        return data

    def state(self, name: str) -> str:
        """Another one where the file was written since."""
        with _in_words(name):
            found = self.path(name).stat()
        return f"{found.st_size} {found.st_mtime_ns}"

    def state_of(self, names: Iterable[str]) -> str:
        """Of several files together, as a hash."""
        told = "\n".join(f"{name} {self.state(name)}" for name in names)
        return hashlib.sha256(told.encode()).hexdigest()

    def open(self, name: str) -> IO[bytes]:
        """A regular file, through no link that was put in its place a moment ago."""
        path = self.path(name)
        with _in_words(name):
            return os.fdopen(_opened_beneath(self._within, path), "rb")

    def _names(self) -> list[str]:
        """Folders that are links are entered, too, each folder once."""
        start = self.path(self.below)
        found, entered, todo = self._above(), set[tuple[int, int]](), [(start, self.below)]
        while todo:
            folder, name = todo.pop()
            if _is_new(folder, entered):
                for base in _listed(folder):
                    self._sort(name if name != ROOT else "", base, found, todo)
        return sorted(found)

    def _above(self) -> list[str]:
        """Plain files of the folders above what is looked into."""
        found, folder = list[str](), self.below
        for _ in range(LEVELS_ABOVE):
            if folder == ROOT:
                break
            folder = parent(folder)
            for base in _listed(self.path(folder)):
                self._sort(folder if folder != ROOT else "", base, found, [])
        return found

    def _sort(self, folder: str, base: str, found: list[str], todo: list[tuple[Path, str]]) -> None:
        name = f"{folder}/{base}" if folder else base
        if not base.isprintable():  # such as one that is no UTF-8
            self.left_out.append(ascii(name))
            return
        with suppress(OSError, RuntimeError):  # a link that dangles, or goes round
            path = (self.root / name).resolve(strict=True)
            kind = path.stat().st_mode
            if path.is_relative_to(self._within) and stat.S_ISREG(kind):
                found.append(name)
            elif path.is_relative_to(self._within) and stat.S_ISDIR(kind):
                todo.append((path, name))
            else:
                self.left_out.append(name)
        if len(found) > MOST_FILES:
            raise TooLarge(
                f"There are more than {MOST_FILES:,} files in `{self.below}`.",
                solution="Choose a folder further down.",
            )


def _is_new(folder: Path, entered: set[tuple[int, int]]) -> bool:
    with suppress(OSError):
        it = folder.stat()
        if (it.st_dev, it.st_ino) not in entered:
            entered.add((it.st_dev, it.st_ino))
            return True
    return False


def _listed(folder: Path) -> list[str]:
    try:
        return [it.name for it in folder.iterdir()]
    except OSError:
        return []  # one that we may not read holds nothing for us


def _opened_beneath(folder: Path, path: Path) -> int:
    """`path` has no links in it: one that is found now was swapped in. Raises UnsafeName."""
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    parts = path.relative_to(folder).parts
    for number, part in enumerate(parts):
        kind = os.O_NONBLOCK if number == len(parts) - 1 else os.O_DIRECTORY
        try:
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=here)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise UnsafeName(f"`{path.name}` was replaced while it was read.") from error
            raise
        finally:
            os.close(here)
        here = inner
    if not stat.S_ISREG(os.fstat(here).st_mode):
        os.close(here)
        raise BrokenFile(f"`{path.name}` is not a file.")
    return here
