"""What the doctor finds, in words: what is wrong, where, how large, and what mending would do."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from saes.doctor.folder import shown


class Kind(StrEnum):
    """In the order in which they are shown and mended."""

    MISSING = "missing"
    CHANGED = "changed"
    SIZES = "sizes"
    ORPHAN = "orphan"
    STRAY = "stray"
    UNFINISHED = "unfinished"
    DUPLICATE = "duplicate"
    LEFTOVER = "leftover"
    UPLOAD = "upload"
    LINK = "link"
    FOREIGN = "foreign"

    @property
    def label(self) -> str:
        return _WORDS[self][0]

    @property
    def plan(self) -> str:
        """What mending does about all of a kind; empty where it does nothing."""
        return _WORDS[self][1]


_WORDS = {
    Kind.MISSING: ("Missing files", "Marked as errors, so that Retry fetches what is missing."),
    Kind.CHANGED: ("Changed files", "Marked as errors, so that Retry fetches what changed."),
    Kind.SIZES: ("Wrong sizes", "The size becomes the sum of the files."),
    Kind.ORPHAN: ("Folders without an SAE", "Moved to the kept files; empty ones are removed."),
    Kind.STRAY: ("Unknown files in SAEs", "Moved to the kept files."),
    Kind.UNFINISHED: ("Unfinished work", "Part files and drafts that nobody needs are removed."),
    Kind.DUPLICATE: ("Stored twice", "Hashed again; what is the same is then stored once."),
    Kind.LEFTOVER: ("Leftovers of the queue", "Removed."),
    Kind.UPLOAD: ("Forgotten uploads", "Removed."),
    Kind.LINK: ("Links", ""),
    Kind.FOREIGN: ("Foreign files", ""),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one SAE, or with one place of the data directory."""

    kind: Kind
    path: str  # relative to the data directory
    size: int  # bytes that it is about
    says: str
    repair: str  # what mending would do; empty where that is for a person to decide
    sae_id: str = ""
    name: str = ""  # of the SAE
    files: tuple[str, ...] = ()  # relative to the SAE's folder

    def to_json(self) -> dict[str, Any]:
        told = {**asdict(self), "kind": str(self.kind)}
        return told | {"files": [shown(name) for name in self.files]}


@dataclass(frozen=True)
class Outcome:
    """What became of a finding. `done` empty: nothing, and `why` says why."""

    finding: Finding
    done: str = ""
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**self.finding.to_json(), "done": self.done, "why_not": self.why}


@dataclass
class Examined:
    """Everything that was found. `complete` is False where the time ran out before the end."""

    findings: list[Finding] = field(default_factory=list)
    saes: int = 0  # that were looked at
    at_work: int = 0  # that were not, because a job is at work on them
    complete: bool = True

    @property
    def mendable(self) -> bool:
        return any(it.repair for it in self.findings)

    def by_kind(self) -> dict[Kind, list[Finding]]:
        """The findings of each kind that there are any of."""
        found = {kind: [it for it in self.findings if it.kind == kind] for kind in Kind}
        return {kind: findings for kind, findings in found.items() if findings}
