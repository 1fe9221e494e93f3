"""Repositories: their commits, their files, and who was let in."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tests.hub.blobs import Blob, to_blob

Content = bytes | Path | Blob
Kind = Literal["model", "dataset"]
Gate = Literal[False, "auto", "manual"]
Request = Literal["accepted", "pending", "rejected", "reset"]

BORN = datetime(2024, 1, 1, tzinfo=UTC)
# From the .gitattributes that the Hub puts into a new repository.
LFS_SUFFIXES = (
    *(".safetensors", ".npz", ".npy", ".pt", ".pth", ".bin", ".ckpt", ".h5", ".onnx", ".msgpack"),
    *(".parquet", ".arrow", ".pkl", ".pickle", ".zip", ".gz", ".tar", ".tgz", ".7z", ".zst"),
    *(".model", ".joblib", ".mlmodel", ".ot", ".tflite", ".wasm", ".xz"),
)


@dataclass(frozen=True)
class Commit:
    sha: str
    title: str
    date: datetime
    files: Mapping[str, Blob]
    parent: str = ""
    message: str = ""
    author: str = ""

    @cached_property
    def rows(self) -> list[tuple[str, Blob | None]]:
        """Every path in order; a folder (no blob) comes before what it holds."""
        seen: dict[str, Blob | None] = {}
        for path in sorted(self.files):
            for parent in _parents(path):
                seen.setdefault(parent, None)
            seen[path] = self.files[path]
        return list(seen.items())

    @cached_property
    def _listings(self) -> dict[tuple[str, bool], list[tuple[str, Blob | None]]]:
        return {}

    def listing(self, folder: str, *, recursive: bool) -> list[tuple[str, Blob | None]]:
        key = (folder, recursive)
        if key not in self._listings:
            start = f"{folder}/" if folder else ""
            rows = [row for row in self.rows if row[0].startswith(start)]
            here = [row for row in rows if "/" not in row[0][len(start) :]]
            self._listings[key] = rows if recursive else here
        return self._listings[key]


def _parents(path: str) -> Iterator[str]:
    for at, letter in enumerate(path):
        if letter == "/" and at:
            yield path[:at]


@dataclass(frozen=True)
class Pull:
    num: int
    title: str
    description: str
    author: str
    date: datetime


@dataclass
class Repo:
    id: str
    kind: Kind = "model"
    private: bool = False
    gated: Gate = False
    card: dict[str, Any] | None = None
    lfs_from: int = 10_000_000
    lfs_suffixes: tuple[str, ...] = LFS_SUFFIXES
    readers: set[str] = field(default_factory=set)
    requests: dict[str, Request] = field(default_factory=dict)
    likes: int = 3
    downloads: int = 1234
    siblings_cap: int | None = None
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    creator: str = ""
    pulls: list[Pull] = field(default_factory=list)
    # Large files that were uploaded, by their sha256, whether a commit names them or not.
    objects: dict[str, Blob] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    @property
    def sha(self) -> str:
        return self.refs["main"]

    @property
    def head(self) -> Commit:
        return self.commits[self.sha]

    def find(self, revision: str) -> Commit | None:
        return self.commits.get(self.refs.get(revision, revision))

    def is_lfs(self, path: str, blob: Blob) -> bool:
        return path.endswith(self.lfs_suffixes) or blob.size > self.lfs_from

    def history(self, start: Commit) -> list[Commit]:
        """The newest comes first."""
        found = [start]
        while parent := found[-1].parent:
            found.append(self.commits[parent])
        return found

    def commit(
        self,
        changes: Mapping[str, Content | None],
        title: str,
        message: str = "",
        author: str = "",
        ref: str = "main",
    ) -> Commit:
        """Moves the branch to a new commit; a path that maps to None is removed."""
        parent = self.refs.get(ref, "")
        files = dict(self.commits[parent].files) if parent else {}
        for path, content in changes.items():
            if content is None:
                del files[path]
            else:
                files[path] = to_blob(content)
        date = BORN + timedelta(hours=len(self.commits))
        sha = self._name(files, ref, parent)
        made = Commit(sha, title, date, files, parent, message, author or self.owner)
        self.commits[sha] = made
        self.refs[ref] = sha
        return made

    def _name(self, files: Mapping[str, Blob], ref: str, parent: str) -> str:
        seed = f"{self.kind} {self.id} {parent}" + ("" if ref == "main" else ref)
        name = hashlib.sha1(seed.encode(), usedforsecurity=False)
        for path, blob in sorted(files.items()):
            name.update(f"\n{path}\0{blob.key}".encode("utf-8", "surrogatepass"))
        return name.hexdigest()


class Repos:
    """All repositories of one hub, by kind and name."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], Repo] = {}
        # Held by who looks at a branch's head and then moves it.
        self.lock = self._lock = threading.RLock()

    def add(self, repo: Repo, files: Mapping[str, Content]) -> Repo:
        repo.commit(files, "Initial commit")
        with self._lock:
            self._all[repo.kind, repo.id] = repo
        return repo

    def get(self, kind: str, repo_id: str) -> Repo | None:
        return self._all.get((kind, repo_id))

    def remove(self, kind: str, repo_id: str) -> None:
        with self._lock:
            del self._all[kind, repo_id]

    def commit(self, repo: Repo, changes: Mapping[str, Content | None], title: str) -> str:
        with self._lock:
            return repo.commit(changes, title).sha

    def of_kind(self, kind: str) -> list[Repo]:
        with self._lock:
            return [repo for repo in self._all.values() if repo.kind == kind]
