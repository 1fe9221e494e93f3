"""What a format is, what it reads from and what it gives: Source, SaeInfo, Sae, Format."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from saes.errors import MissingFact
from saes.progress import Reporter
from saes.tensors import LazyTensor

if TYPE_CHECKING:
    from saes.reference import Reference

ROOT = "."  # the `where` of an SAE whose files lie at the root
LEVELS_ABOVE = 3  # how many folders may lie between one of its files and the SAE's own


class Origin(StrEnum):
    """Where a fact comes from. INFERRED is a suggestion: it is shown, never acted on."""

    FILE = "file"
    PATH = "path"
    CATALOGUE = "catalogue"
    TRAINING = "training"  # the record of its run
    USER = "user"
    INFERRED = "inferred"


@dataclass(frozen=True)
class Fact:
    value: Any
    origin: Origin


Facts = Mapping[str, Fact]


def as_facts(origin: Origin, values: Mapping[str, Any]) -> dict[str, Fact]:
    """Those of the values that are known."""
    return {name: Fact(value, origin) for name, value in values.items() if value is not None}


Given = Mapping[str, Any]  # what the user states, by fact name; it outranks everything else


def from_run(facts: Mapping[str, Fact], training: Mapping[str, Any]) -> dict[str, Fact]:
    """What the record of a run told is stated to the formats, but by no user."""
    told = training.get("facts", {})
    return {
        name: replace(it, origin=Origin.TRAINING)
        if it.origin == Origin.USER and name in told and told[name] == it.value
        else it
        for name, it in facts.items()
    }


class Tree:
    """File names of one repository or folder, indexed once so that 50,000 are searched quickly."""

    def __init__(self, names: Iterable[str], repo_id: str | None = None) -> None:
        self.repo_id = repo_id
        self.names = frozenset(names)
        self.folders: dict[str, set[str]] = defaultdict(set)
        for name in self.names:
            folder, _, base = name.rpartition("/")
            self.folders[folder or ROOT].add(base)

    def folders_with(self, *bases: str) -> list[str]:
        """Folders that hold every one of these file names, sorted."""
        wanted = set(bases)
        return sorted(folder for folder, held in self.folders.items() if wanted <= held)

    def near(self, place: str) -> "Tree":
        """The files in a folder, or those around a file."""
        folder = parent(place) if place in self.names else place
        inner = self.names if folder == ROOT else (it for it in self.names if _within(it, folder))
        return Tree(inner, self.repo_id)

    def has(self, where: str, base: str) -> bool:
        return base in self.folders.get(where, ())


def _within(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/")


def inside(where: str, base: str) -> str:
    """The name of file `base` in folder `where`."""
    return base if where == ROOT else f"{where}/{base}"


def parent(name: str) -> str:
    """The folder of a file or folder."""
    return name.rpartition("/")[0] or ROOT


class Source(Protocol):
    """Names, small texts and byte ranges: a local folder, the Hub or a test fixture."""

    @property
    def tree(self) -> Tree: ...

    def size(self, name: str) -> int: ...

    def text(self, name: str) -> str:
        """A small UTF-8 file, whole. Raises ConfigNotFound, TooLarge or BrokenFile."""

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Exactly the bytes [start, stop). Raises BrokenFile where the file is shorter."""


class Folder(Source, Protocol):
    """A Source on this machine's disk."""

    @property
    def root(self) -> Path: ...

    def path(self, name: str) -> Path: ...


@dataclass(frozen=True)
class TensorSpec:
    """One stored tensor as its header tells it: dtype in safetensors' words (F32, BF16, ...)."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class SaeInfo:
    """What config and headers tell about one SAE, without a weight read.

    `missing` is not empty where the files do not say enough to convert it.
    """

    format: str
    where: str
    facts: Facts
    tensors: Sequence[TensorSpec] = ()
    files: Sequence[str] = ()
    missing: Sequence[MissingFact] = ()

    def get(self, name: str, default: Any = None) -> Any:
        fact = self.facts.get(name)
        return default if fact is None else fact.value


@dataclass(frozen=True)
class Sae:
    """The neutral form: community-standard tensors, read lazily, and what they mean.

    W_enc [d_in, d_sae], b_enc [d_sae], W_dec [d_sae, d_out], b_dec [d_out]; gated: b_gate, b_mag,
    r_mag [d_sae] and no b_enc; JumpReLU: threshold [d_sae]; skip types: W_skip [d_out, d_in].
    """

    info: SaeInfo
    tensors: Mapping[str, LazyTensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)


class Format(Protocol):
    """One on-disk family. Stateless. NotThisFormat is "not mine", BrokenFile "mine, but broken"."""

    slug: ClassVar[str]
    label: ClassVar[str]
    looks_for: ClassVar[str]  # in words, for a repository that holds no SAE

    def find(self, tree: Tree) -> list[str]:
        """The `where` of each SAE of this family, from names alone."""

    def files(self, tree: Tree, where: str) -> list[str]:
        """The names of the SAE's own files: what a download fetches, and nothing else."""

    def hints(self, tree: Tree, where: str) -> Facts:
        """What names alone tell: layer, width, l0, hook_type, model_name. Origin PATH."""

    def probe(self, source: Source, where: str, given: Given) -> SaeInfo:
        """Facts, tensors and what is missing, from config and headers."""

    def load(self, source: Folder, where: str, given: Given) -> Sae:
        """The neutral form. Raises NeedsFacts where probe() reports something missing."""

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        """A plain forward of this family from its definition, for the certificate.

        Raises UnsupportedArchitecture for what is no plain dictionary.
        """


@runtime_checkable
class WritableFormat(Format, Protocol):
    architectures: ClassVar[Sequence[str]]  # what it can hold

    def save(self, sae: Sae, target: Path, progress: Reporter) -> list[Path]:
        """Write the SAE into the empty folder `target`, panel by panel. Raises CannotRepresent."""
