"""Files that are still being written: who reads one in this process waits for the bytes it wants.

So a conversion begins while its source still comes from the network, and what it writes is compared
and hashed while it is still being written. Everybody who reads weights asks here first.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOOK_EVERY = 0.005  # seconds
Has = Callable[[int, int], bool]  # whether bytes [start, stop) are there; may raise Stopped
_files: dict[tuple[int, int], Has] = {}


@contextmanager
def announced(descriptor: int, has: Has) -> Iterator[None]:
    """The open file grows meanwhile, under whichever name it is read."""
    inode = _inode(os.fstat(descriptor))
    _files[inode] = has
    try:
        yield
    finally:
        del _files[inode]


def is_known(path: Path) -> bool:
    """Whether this very file is announced now."""
    return path.exists() and _inode(path.stat()) in _files


def wait_for(path: Path, start: int, stop: int) -> None:
    """Until these bytes are there; at once for a file that does not grow. May raise Stopped."""
    if not _files or not path.exists():
        return
    has = _files.get(_inode(path.stat()))
    while has is not None and not has(start, stop):
        time.sleep(LOOK_EVERY)


def wait_for_all(path: Path) -> None:
    """For readers that begin at the end."""
    if _files and path.exists():
        wait_for(path, 0, path.stat().st_size)


def read(file: IO[bytes], path: Path, size: int) -> bytes:
    """The next bytes of an open file."""
    wait_for(path, file.tell(), file.tell() + size)
    return file.read(size)


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
