"""What a file is made of: bytes, a file on disk, or bytes invented as they are asked for."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path

STEP = 1 << 18
LONG_STEP = 1 << 20
# A prime, so that a range that is off by whole MiB meets other bytes.
PATTERN = 1_048_583


class Stretch:
    """Bytes of a file on disk, which the kernel can send: they are read only by who wants them."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self.path, self.start, self.stop = path, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> Stretch:
        first, last, _ = part.indices(len(self))
        return Stretch(self.path, self.start + first, self.start + last)

    def __bytes__(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(len(self))


class Blob(ABC):
    """Content of one file; hashes are computed when first asked for."""

    size: int

    @abstractmethod
    def read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), which lie inside the file."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What tells this content from another's, cheaply; goes into the commit's sha."""

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        end = self.size if stop is None else stop
        for at in range(start, end, STEP):
            yield self.read(at, min(at + STEP, end))

    def to_send(self, start: int = 0, stop: int | None = None) -> Iterator[bytes | Stretch]:
        """The same as pieces(); what need not be read for it is not."""
        return self.pieces(start, stop)

    @cached_property
    def sha256(self) -> str:
        return _digest("sha256", b"", self)

    @cached_property
    def git_sha1(self) -> str:
        return _digest("sha1", b"blob %d\0" % self.size, self)

    @property
    def pointer(self) -> bytes:
        """The text that git holds in the place of a large file."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\n"
        return f"{text}size {self.size}\n".encode()

    def etag(self, *, lfs: bool) -> str:
        return self.sha256 if lfs else self.git_sha1


def _digest(name: str, head: bytes, blob: Blob) -> str:
    digest = hashlib.new(name, head, usedforsecurity=False)
    for piece in blob.pieces():
        digest.update(piece)
    return digest.hexdigest()


class Bytes(Blob):
    def __init__(self, content: bytes) -> None:
        self.content, self.size = content, len(content)

    def read(self, start: int, stop: int) -> bytes:
        return self.content[start:stop]

    @property
    def key(self) -> str:
        return self.git_sha1


class OnDisk(Blob):
    def __init__(self, path: Path) -> None:
        self.path, self.size = path, path.stat().st_size

    def read(self, start: int, stop: int) -> bytes:
        return bytes(Stretch(self.path, start, stop))

    def to_send(self, start: int = 0, stop: int | None = None) -> Iterator[bytes | Stretch]:
        end = self.size if stop is None else stop
        for at in range(start, end, LONG_STEP):
            yield Stretch(self.path, at, min(at + LONG_STEP, end))

    @property
    def key(self) -> str:
        return self.git_sha1


class Hollow(Blob):
    """`size` bytes that follow from `seed` and need no room, whatever the size.

    `listing_only` spares the hashing of files that are listed but never fetched:
    their hashes are invented and do not match the bytes."""

    def __init__(self, size: int, seed: int = 0, *, listing_only: bool = False) -> None:
        self.size, self.seed, self.listing_only = size, seed, listing_only

    def read(self, start: int, stop: int) -> bytes:
        pattern = _pattern(self.seed, min(self.size, PATTERN))
        begin = start % len(pattern)
        times = (begin + stop - start) // len(pattern) + 1
        return (pattern * times)[begin : begin + stop - start]

    @property
    def key(self) -> str:
        return f"{type(self).__name__}:{self.size}:{self.seed}"

    @cached_property
    def sha256(self) -> str:
        return self._hash("sha256")

    @cached_property
    def git_sha1(self) -> str:
        return self._hash("sha1")

    def _hash(self, name: str) -> str:
        if self.listing_only:
            return hashlib.new(name, self.key.encode(), usedforsecurity=False).hexdigest()
        return _hollow_digest(name, type(self), self.size, self.seed)


class Zeros(Hollow):
    """`size` zero bytes."""

    def read(self, start: int, stop: int) -> bytes:
        return bytes(stop - start)


class Forged(Blob):
    """Another content with a false size or false hashes in listings and headers."""

    def __init__(
        self,
        content: bytes | Path | Blob,
        *,
        size: int | None = None,
        sha256: str | None = None,
        git_sha1: str | None = None,
    ) -> None:
        self.true = to_blob(content)
        self.size = self.true.size if size is None else size
        self._sha256, self._git_sha1 = sha256, git_sha1

    def read(self, start: int, stop: int) -> bytes:
        return self.true.read(min(start, self.true.size), min(stop, self.true.size))

    @property
    def key(self) -> str:
        return f"forged:{self.true.key}:{self.size}:{self._sha256}:{self._git_sha1}"

    @cached_property
    def sha256(self) -> str:
        return self._sha256 or self.true.sha256

    @cached_property
    def git_sha1(self) -> str:
        return self._git_sha1 or self.true.git_sha1


@lru_cache(maxsize=64)
def _pattern(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


@lru_cache(maxsize=4096)
def _hollow_digest(name: str, kind: type[Hollow], size: int, seed: int) -> str:
    head = b"blob %d\0" % size if name == "sha1" else b""
    return _digest(name, head, kind(size, seed))


def to_blob(content: bytes | Path | Blob) -> Blob:
    if isinstance(content, Blob):
        return content
    return OnDisk(content) if isinstance(content, Path) else Bytes(content)
