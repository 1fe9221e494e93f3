"""The data directory: part files, hashes, free space, publishing by rename, one worker per SAE.

One SAE: `saes/<id>/parts/` (unfinished), `source/` (as downloaded), `native/` (converted).
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from saes.errors import Conflict, DataMissing, DiskFull, HashMismatch, UnsafeName

CHUNK = 4 * 2**20
MARGIN = 64 * 2**20  # left free on the disk beside what a job needs
_ID = re.compile(r"[a-z]+_[0-9a-f]{12}")
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Expected:
    """What a file must turn out to be: its size and the Hub's own hash of it."""

    size: int
    sha256: str = ""  # of files in LFS
    git_sha1: str = ""  # of the others: git's blob hash

    @property
    def oid(self) -> str:
        return self.sha256 or self.git_sha1


@dataclass(frozen=True)
class Written:
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Kept:
    """A folder in `kept/`: files of an SAE that was deleted without them."""

    name: str
    size: int
    label: Mapping[str, str]


class PartFile:
    """Bytes of one file as far as they came, hashed as they are written.

    It is named by the hash it must have: a file that changed on the Hub starts a new part.
    """

    def __init__(self, path: Path, expected: Expected, tick: Tick) -> None:
        self.path, self.expected = path, expected
        self._sha256 = hashlib.sha256()
        self._git_sha1 = hashlib.sha1(f"blob {expected.size}\0".encode(), usedforsecurity=False)
        if path.exists() and path.stat().st_size > expected.size:
            path.unlink()
        self.size = 0
        with disk_errors():
            self._file: IO[bytes] = path.open("ab")
        with path.open("rb") as written:
            while chunk := written.read(CHUNK):
                self._count(chunk)
                tick(self.size)

    def _count(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        if self.expected.git_sha1:
            self._git_sha1.update(chunk)
        self.size += len(chunk)

    def write(self, chunk: bytes) -> None:
        with disk_errors():
            self._file.write(chunk)
            self._file.flush()
        self._count(chunk)

    def publish(self, target: Path) -> Written:
        """Check the hash, flush to disk, rename. Raises HashMismatch; the bytes are gone then."""
        digest = self._sha256.hexdigest()
        actual = digest if self.expected.sha256 else self._git_sha1.hexdigest()
        on_disk = os.fstat(self._file.fileno()).st_size
        if not on_disk == self.size == self.expected.size or actual != self.expected.oid:
            self.close()
            self.path.unlink()
            raise HashMismatch(f"{target.name}: the bytes that came are not those of the Hub.")
        with disk_errors():
            os.fsync(self._file.fileno())
            self.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            self.path.rename(target)
            sync(target.parent)
        return Written(target, self.size, digest)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def disk_errors() -> Iterator[None]:
    """What the disk refuses, in words: DiskFull or DataMissing."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The disk is full. What was downloaded so far is kept.") from error
        why = os.strerror(error.errno or errno.EIO).lower()
        raise DataMissing(f"The data directory cannot be used: {why}.") from error


class Library:
    """The data directory. Every path of it is made here."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def home(self, sae_id: str) -> Path:
        """The folder of one SAE. Only ids that the server made itself become paths."""
        if not _ID.fullmatch(sae_id):
            raise UnsafeName(f"{sae_id!r} is not an id of this server.")
        return self.root / "saes" / sae_id

    def source(self, sae_id: str) -> Path:
        return self.home(sae_id) / "source"

    def native(self, sae_id: str) -> Path:
        return self.home(sae_id) / "native"

    @contextmanager
    def hold(self, sae_id: str, check: Callable[[], None], seconds: float = 1e9) -> Iterator[None]:
        """The right to write below the SAE's folder: one process at a time has it.

        Waits for it, calling `check` often; raises Conflict after `seconds`. The kernel takes it
        from a process that ends, however that ends.
        """
        locks = self.root / "run" / "locks"
        with disk_errors():
            locks.mkdir(parents=True, exist_ok=True)
            file = (locks / sae_id).open("w")
        with file:
            end = time.monotonic() + seconds
            while not _try_lock(file):
                check()
                if time.monotonic() > end:
                    raise Conflict("A worker is still at this SAE; try again in a moment.")
                time.sleep(0.05)
            yield

    def part(self, sae_id: str, expected: Expected, tick: Tick) -> PartFile:
        """The part file of one download. `tick` is called while an earlier part is read again."""
        parts = self.home(sae_id) / "parts"
        with disk_errors():
            parts.mkdir(exist_ok=True)
        return PartFile(parts / expected.oid, expected, tick)

    def part_size(self, sae_id: str, expected: Expected) -> int:
        path = self.home(sae_id) / "parts" / expected.oid
        return path.stat().st_size if path.exists() else 0

    def open_home(self, sae_id: str) -> Path:
        """Make the SAE's folder. Raises DataMissing where the data directory itself is away."""
        if not self.root.is_dir():
            raise DataMissing("The data directory is not there; is its disk mounted?")
        home = self.home(sae_id)
        with disk_errors():
            home.mkdir(parents=True, exist_ok=True)
        return home

    def export(self, sae_id: str, format: str) -> Path:
        """The SAE in another format; `format` is a slug of ours."""
        return self.home(sae_id) / "exports" / format

    def drop_exports(self, sae_id: str) -> None:
        self._drop(sae_id, "exports")

    @contextmanager
    def draft(self, final: Path) -> Iterator[Path]:
        """A folder that replaces `final` at once when the block ends well, else disappears."""
        draft = final.with_name(f"{final.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        with disk_errors():
            final.parent.mkdir(exist_ok=True)
            draft.mkdir()
            try:
                yield draft
                for file in sorted(draft.rglob("*")):
                    sync(file)
                shutil.rmtree(final, ignore_errors=True)
                draft.rename(final)
                sync(final.parent)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def drop_parts(self, sae_id: str) -> None:
        self._drop(sae_id, "parts")

    def _drop(self, sae_id: str, name: str) -> None:
        if not self.home(sae_id).is_symlink():
            shutil.rmtree(self.home(sae_id) / name, ignore_errors=True)

    def remove(self, sae_id: str) -> None:
        """Remove the SAE's own folder and nothing else. One that is gone already is no error."""
        self.refuse_link(sae_id)
        if self.home(sae_id).exists():
            with disk_errors():
                shutil.rmtree(self.home(sae_id))

    def refuse_link(self, sae_id: str) -> None:
        """Raises UnsafeName where the SAE's folder is a link to somewhere else."""
        if self.home(sae_id).is_symlink():
            raise UnsafeName(f"The folder of {sae_id} is a link; it is left alone.")

    def keep(self, sae_id: str, label: Mapping[str, str]) -> Path | None:
        """Move the SAE's files to `kept/`, with a label that says what they were."""
        home, kept = self.home(sae_id), self.root / "kept" / sae_id
        self.drop_parts(sae_id)
        shutil.rmtree(home / "native.draft", ignore_errors=True)
        self.drop_exports(sae_id)
        if not home.is_dir() or not size_of(home):
            return None
        with disk_errors():
            (home / "kept.json").write_text(json.dumps(label), encoding="utf-8")
            kept.parent.mkdir(exist_ok=True)
            home.rename(kept)
        return kept

    def kept(self) -> list[Kept]:
        folder = self.root / "kept"
        if not folder.is_dir():
            return []
        folders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        return [Kept(path.name, size_of(path), _label(path)) for path in folders]

    def remove_kept(self, name: str) -> None:
        if not _ID.fullmatch(name):
            raise UnsafeName(f"{name!r} is not a folder of this server.")
        folder = self.root / "kept" / name
        if not folder.is_dir():
            raise Conflict(f"There are no kept files of {name}.")
        with disk_errors():
            shutil.rmtree(folder)

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def free(self) -> int:
        return shutil.disk_usage(self.root).free


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _label(folder: Path) -> Mapping[str, str]:
    try:
        label = json.loads((folder / "kept.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # files that somebody put there by hand
    return label if isinstance(label, dict) else {}


def size_of(folder: Path) -> int:
    """Bytes of every file below `folder`, also while a worker renames some of them."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def sha256_of(path: Path, tick: Tick = lambda done: None) -> str:
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            tick(done)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to disk, so that a rename never outlives its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
