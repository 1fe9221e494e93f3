"""Secret keys that live as files of mode 600 in the data directory, each made once."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def read_or_create(path: Path, make: Callable[[], str] = lambda: secrets.token_urlsafe(50)) -> str:
    """The key in `path`; the first caller makes it, and a racing second one reads that same key."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _create(path, make())
    return path.read_text(encoding="ascii").strip()


def replace(path: Path, content: str) -> None:
    """Other content, at once and for good: a reader, and the disk after a power cut, have the old
    or the new one. One process at a time."""
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)  # a draft of somebody who was killed
    with _draft(path, content) as draft:
        draft.rename(path)
    _sync_folder(path.parent)


def _create(path: Path, key: str) -> None:
    with _draft(path, key) as draft:
        try:
            os.link(draft, path)
        except (FileExistsError, FileNotFoundError):
            return  # another one was first, and may have tidied up
    _sync_folder(path.parent)


@contextmanager
def _draft(path: Path, content: str) -> Iterator[Path]:
    """Written whole under another name, so that nobody ever reads half a key."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
