"""Small disks of their own for tests: in memory, and full whenever a test wants them to be."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(at: Path, megabytes: int, inodes: int = 0) -> Iterator[Path]:
    """Mounted at `at`. Skips the test, visibly, where this user may not mount."""
    at.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes}m" + (f",nr_inodes={inodes}" if inodes else "")
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes everything but `leave` bytes, whoever else writes meanwhile."""
    filler = disk / f"filler-{leave}"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        left = shutil.disk_usage(disk).free - leave
        while left > 0:
            left -= file.write(bytes(min(left, 2**20)))
    return filler
