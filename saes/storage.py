"""The data directory: safe names, part files, hashes, free space, publishing by rename.

One SAE: `saes/<id>/parts/` (unfinished), `source/` (as downloaded), `native/` (converted).
"""

import errno
import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Self

from saes.errors import Conflict, DataMissing, DiskFull, HashMismatch, UnsafeName

CHUNK = 4 * 2**20
MARGIN = 64 * 2**20  # left free on the disk beside what a job needs
LONGEST_NAME = 255
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$")
_ID = re.compile(r"[a-z]+_[0-9a-f]{12}")
Tick = Callable[[int], None]


def why_unsafe(name: str) -> str | None:
    """Why a remote name may not become a path, by POSIX and Windows rules; None if it may."""
    if not name or len(name.encode("utf-8", "replace")) > 1000:
        return "it is empty or too long"
    if name != unicodedata.normalize("NFC", name):
        return "it is not in Unicode's composed form"
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co") for c in name):
        return "it holds invisible characters"
    if any(c in '\\<>"|?*\u2215\u2044\uff0f\uff3c' for c in name):
        return "it holds characters that no file name may have"
    return next((why for part in name.split("/") if (why := _why_bad_part(part))), None)


def _why_bad_part(part: str) -> str | None:
    if part in ("", ".", ".."):
        return "it leaves its folder or has an empty part"
    if re.match(r"^[A-Za-z]:", part) or len(part.encode()) > LONGEST_NAME:
        return "it names a drive or is too long"
    if part[-1] in ". " or part[0] == " " or _RESERVED.match(part):
        return "it is a reserved name or ends in a dot or space"
    return None


def refuse_unsafe(names: Iterable[str]) -> None:
    """Raises UnsafeName for a bad name, and for two that differ in case or accents only."""
    seen: dict[str, str] = {}
    for name in names:
        if why := why_unsafe(name):
            raise UnsafeName(f"The file name {name!r} is refused: {why}.")
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            raise UnsafeName(f"{twin!r} and {name!r} would be one file on some disks.")


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
        if self.size != self.expected.size or actual != self.expected.oid:
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
    """Turns "no space left" into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The disk is full. What was downloaded so far is kept.") from error
        raise


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

    @contextmanager
    def draft(self, sae_id: str) -> Iterator[Path]:
        """A folder that replaces `native/` at once when the block ends well, else disappears."""
        draft, final = self.home(sae_id) / "native.draft", self.native(sae_id)
        shutil.rmtree(draft, ignore_errors=True)
        with disk_errors():
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
        shutil.rmtree(self.home(sae_id) / "parts", ignore_errors=True)

    def remove(self, sae_id: str) -> None:
        """Remove the SAE's own folder and nothing else. One that is gone already is no error."""
        self.refuse_link(sae_id)
        if self.home(sae_id).exists():
            shutil.rmtree(self.home(sae_id))

    def refuse_link(self, sae_id: str) -> None:
        """Raises UnsafeName where the SAE's folder is a link to somewhere else."""
        if self.home(sae_id).is_symlink():
            raise UnsafeName(f"The folder of {sae_id} is a link; it is left alone.")

    def keep(self, sae_id: str) -> Path | None:
        """Move the SAE's files out of the library, to `kept/`."""
        home, kept = self.home(sae_id), self.root / "kept" / sae_id
        self.drop_parts(sae_id)
        if not home.is_dir() or not any(home.iterdir()):
            return None
        kept.parent.mkdir(exist_ok=True)
        home.rename(kept)
        return kept

    def kept(self) -> list[tuple[str, int]]:
        """Name and bytes of every folder in `kept/`."""
        folder = self.root / "kept"
        if not folder.is_dir():
            return []
        return [(path.name, size_of(path)) for path in sorted(folder.iterdir()) if path.is_dir()]

    def remove_kept(self, name: str) -> None:
        if not _ID.fullmatch(name):
            raise UnsafeName(f"{name!r} is not a folder of this server.")
        folder = self.root / "kept" / name
        if not folder.is_dir():
            raise Conflict(f"There are no kept files of {name}.")
        shutil.rmtree(folder, ignore_errors=True)

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def free(self) -> int:
        return shutil.disk_usage(self.root).free


def target_in(folder: Path, name: str) -> Path:
    """The path of a remote name below `folder`. Raises UnsafeName."""
    refuse_unsafe([name])
    return folder.joinpath(*PurePosixPath(name).parts)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


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
