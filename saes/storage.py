"""The data directory: its folders, hashes, free space, publishing by rename, one worker per SAE.

One SAE: `saes/<id>/parts/` (unfinished), `source/` (as it came), `native/` (converted).
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

from saes import growing, locks
from saes.errors import Conflict, DataAway, DataMissing, DiskFull, UnsafeName

CHUNK = 4 * 2**20
FLUSH_EVERY = 64 * 2**20  # bytes: what is on the disk already need not be waited for at the end
MARGIN = 64 * 2**20  # left free on the disk beside what a job needs
MARK = ".mistudio"  # in saes/: whose data directory it is
ID = re.compile(r"[a-z]+_[0-9a-f]{12}")
Tick = Callable[[int], None]
Guard = Callable[["Library", bool], None]  # see mounted.py


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

    def __init__(self, root: Path, guard: Guard = lambda shelf, opening: None) -> None:
        self.root, self._guard = root, guard

    def require_there(self, *, opening: bool = False) -> None:
        """Raises DataAway where the data directory, or the disk with its SAEs, is away."""
        if not self.root.is_dir():
            raise DataAway("The data directory is not there; is its disk mounted?")
        self._guard(self, opening)

    @property
    def mark(self) -> Path:
        return self.root / "saes" / MARK

    def home(self, sae_id: str) -> Path:
        """The folder of one SAE. Only ids that the server made itself become paths."""
        if not ID.fullmatch(sae_id):
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
        lock, end = self.root / "run" / "locks" / sae_id, time.monotonic() + seconds
        if not self.root.is_dir():
            self.require_there()
        while (file := _taken(lock)) is None:
            check()
            if time.monotonic() > end:
                raise Conflict("A worker is still at this SAE; try again in a moment.")
            time.sleep(0.05)
        try:
            yield
        finally:
            if not self.home(sae_id).exists():  # nobody needs the lock any more
                lock.unlink(missing_ok=True)
            file.close()

    def parts(self, sae_id: str) -> Path:
        """The folder of the SAE's part files."""
        return self.home(sae_id) / "parts"

    def open_home(self, sae_id: str) -> Path:
        """Make the SAE's folder. Raises DataMissing where the data directory itself is away."""
        self.require_there(opening=True)
        home = self.home(sae_id)
        with disk_errors():
            home.mkdir(parents=True, exist_ok=True)
        return home

    def upload(self, upload_id: str) -> Path:
        """The folder of files that a browser sent."""
        if not ID.fullmatch(upload_id):
            raise UnsafeName(f"{upload_id!r} is not an id of this server.")
        return self.root / "uploads" / upload_id

    def export(self, sae_id: str, format: str) -> Path:
        """The SAE in another format; `format` is a slug of ours."""
        return self.home(sae_id) / "exports" / format

    def drop(self, sae_id: str, folder: str) -> None:
        """Remove one of the folders of the SAE."""
        if not self.home(sae_id).is_symlink():
            shutil.rmtree(self.home(sae_id) / folder, ignore_errors=True)

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

    def has_parts(self, sae_id: str) -> bool:
        return self.parts(sae_id).is_dir()

    def drop_parts(self, sae_id: str) -> None:
        self.drop(sae_id, "parts")

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
        self.drop(sae_id, "exports")
        if not home.is_dir() or not size_of(home):
            return None
        with disk_errors():
            write_label(home, label)
            kept.parent.mkdir(exist_ok=True)
            home.rename(kept)
        return kept

    def kept(self) -> list[Kept]:
        folder = self.root / "kept"
        if not folder.is_dir():
            return []
        folders = [it for it in sorted(folder.iterdir()) if it.is_dir() and not it.is_symlink()]
        return [Kept(path.name, size_of(path), _label(path)) for path in folders]

    def remove_kept(self, name: str) -> None:
        if not ID.fullmatch(name):
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


def _taken(lock: Path) -> IO[str] | None:
    with disk_errors():
        return locks.take(lock)


def write_label(folder: Path, label: Mapping[str, str]) -> None:
    """Say in a folder of `kept/` what it was."""
    (folder / "kept.json").unlink(missing_ok=True)  # a link would be written through
    (folder / "kept.json").write_text(json.dumps(label), encoding="utf-8")


def _label(folder: Path) -> Mapping[str, str]:
    try:
        label = json.loads((folder / "kept.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # files that somebody put there by hand
    return label if isinstance(label, dict) else {}


def remove_folder(folder: Path) -> None:
    """One that is not there, or that somebody else removes, is no error."""
    shutil.rmtree(folder, ignore_errors=True)


def link(path: Path, target: Path) -> bool:
    """Another name of a file, in place of what is there. False where the disk has no such thing."""
    draft = target.with_name(f"{target.name}.link")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        os.link(path, draft, follow_symlinks=False)
    except OSError:
        return False
    with disk_errors():
        draft.replace(target)
        sync(target.parent)
    return True


def freed_by_removing(*folders: Path) -> int:
    """Bytes that the disk gets back: files that other SAEs name as well stay."""
    inside: Counter[tuple[int, int]] = Counter()
    freed = 0
    for path in chain.from_iterable(folder.rglob("*") for folder in folders):
        with suppress(FileNotFoundError):
            it = path.lstat()
            inside[it.st_dev, it.st_ino] += 1
            if stat.S_ISREG(it.st_mode) and inside[it.st_dev, it.st_ino] == it.st_nlink:
                freed += it.st_size
    return freed


def size_of(folder: Path) -> int:
    """Bytes of every file below `folder`, also while a worker renames some of them."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def sha256_of(path: Path, tick: Tick = lambda done: None) -> str:
    """Of a file that may still grow, too. May raise Stopped then."""
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while chunk := growing.read(file, path, min(CHUNK, size - done)):
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
