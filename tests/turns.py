"""Whose turn it is, where tests run in several processes: who measures time waits for the others,
and they for it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Two files that are there anyway. Who waits for the room keeps the door shut: those behind it
# cannot pass by time and again.
DOOR, ROOM = Path(__file__), Path(__file__).with_name("conftest.py")


@contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Beside others, or in nobody's company."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    with ExitStack() as room:
        with _locked(DOOR, fcntl.LOCK_EX):
            room.enter_context(_locked(ROOM, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("rb") as file:
        fcntl.flock(file, kind)
        try:
            yield
        finally:
            # Not left to closing it: a process that a test forked may hold it open as well.
            fcntl.flock(file, fcntl.LOCK_UN)
