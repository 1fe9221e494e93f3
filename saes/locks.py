"""Locks between processes: files that the kernel lets one of them hold, however that ends."""

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO


def take(lock: Path) -> IO[str] | None:
    """The lock, or None while another has it. Who has it may remove the file: then it is none."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("w")
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
            return file
    file.close()
    return None


def is_free(lock: Path, act: Callable[[], None] = lambda: None) -> bool:
    """Whether nobody has it; nothing is made for that. `act` is done while it is had."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return not lock.exists()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        act()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
