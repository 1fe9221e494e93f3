"""A folder on this machine as a Source. Links are followed only where they stay inside."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from saes.errors import BrokenFile, ConfigNotFound, DataMissing, PathNotFound, TooLarge, UnsafeName
from saes.formats.base import Tree

MAX_TEXT = 1 << 20


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
    """`within` is the folder that links may point into: the folder itself unless said otherwise."""

    def __init__(
        self, root: Path | str, repo_id: str | None = None, within: Path | None = None
    ) -> None:
        self.root = Path(root).resolve()
        self.repo_id = repo_id
        self._within = within.resolve() if within else self.root
        with _in_words(self.root.name):
            if not self.root.is_dir():
                raise DataMissing(f"The folder `{self.root.name}` is not there.")

    @cached_property
    def tree(self) -> Tree:
        return Tree(self._names(), self.repo_id)

    def path(self, name: str) -> Path:
        """The file, links resolved. Raises UnsafeName where it lies outside."""
        path = (self.root / name).resolve()
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
        self.size(name)
        with _in_words(name), self.path(name).open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        if len(data) != stop - start:
            raise BrokenFile(f"`{name}` ends early: it has no byte {stop - 1:,}.")
        return data

    def _names(self) -> list[str]:
        return [
            Path(folder, base).relative_to(self.root).as_posix()
            for folder, _, bases in os.walk(self.root)
            for base in bases
            if self._is_ours(Path(folder, base))
        ]

    def _is_ours(self, path: Path) -> bool:
        try:
            real = path.resolve()
            return real.is_relative_to(self._within) and stat.S_ISREG(real.stat().st_mode)
        except (OSError, RuntimeError):  # a dangling or circular link
            return False
