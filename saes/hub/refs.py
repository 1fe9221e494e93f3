"""Names of repositories, and what they hold at one commit, as plain values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from urllib.parse import unquote

from saes import errors
from saes.formats.base import Tree
from saes.storage import Expected

_REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
# The host is not looked at: a mirror's pages have the same paths. A bare host is that of the Hub.
_PASTED = re.compile(
    r"(?i:https?://[^/?#]*|(?:www\.)?(?:huggingface\.co|hf\.co))/([^?#]*)(?:[?#].*)?"
)


@dataclass(frozen=True)
class RepoRef:
    """A repository and a revision of it, as a person or a program named them."""

    id: str
    type: str = "model"
    revision: str = ""

    @classmethod
    def parse(cls, text: str, revision: str = "") -> "RepoRef":
        """From `owner/name` or a pasted URL of a Hub page. Raises BadName."""
        address = _PASTED.fullmatch(text.strip())
        repo, kind, found = _split_path(address[1]) if address else (text.strip(), "model", "")
        wrong = not _REPO_ID.fullmatch(repo) or any(p.strip(".-") != p for p in repo.split("/"))
        if wrong or ".." in repo or "--" in repo:
            raise errors.BadName(f"{text.strip()[:120]!r} is not a repository id.")
        wanted = revision.strip() or found
        if len(wanted) > 200 or any(not c.isprintable() or c in "\\?#%" for c in wanted):
            raise errors.BadName(f"{wanted[:80]!r} is not a branch, tag or commit.")
        return cls(repo, kind, wanted)


def _split_path(path: str) -> tuple[str, str, str]:
    parts = [unquote(part) for part in path.split("/") if part]
    kind = "model"
    if parts and parts[0] == "spaces":
        return "", kind, ""  # a space holds a program, no SAE
    if parts and parts[0] in ("datasets", "models"):
        kind = "dataset" if parts.pop(0) == "datasets" else "model"
    revision = parts[3] if len(parts) > 3 and parts[2] in ("tree", "blob", "resolve") else ""
    return "/".join(parts[:2]), kind, revision


@dataclass(frozen=True)
class RemoteFile:
    name: str
    expected: Expected

    @property
    def size(self) -> int:
        return self.expected.size


@dataclass(frozen=True)
class Listing:
    """A repository at one commit: every file with its size and the Hub's hash of it."""

    repo_id: str
    repo_type: str
    commit: str
    files: Mapping[str, RemoteFile]
    unsafe: tuple[str, ...] = ()  # names that were left out
    private: bool = False
    gated: bool = False
    license: str = ""
    base_model: str = ""
    last_modified: datetime | None = None
    downloads: int = 0

    @cached_property
    def tree(self) -> Tree:
        return Tree(self.files, self.repo_id)

    @property
    def total_size(self) -> int:
        return sum(file.size for file in self.files.values())
