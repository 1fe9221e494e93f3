"""The formats this project knows, in the order in which they are asked."""

from collections.abc import Iterable
from dataclasses import dataclass

from saes.errors import NotThisFormat, SeveralSaes, UnknownFormat
from saes.formats.apollo import Apollo
from saes.formats.archive import ArchiveSource
from saes.formats.bare import Bare
from saes.formats.base import (
    LEVELS_ABOVE,
    ROOT,
    Format,
    Given,
    SaeInfo,
    Source,
    Tree,
    inside,
    parent,
)
from saes.formats.circuit_tracer_clt import CircuitTracerClt
from saes.formats.circuit_tracer_transcoder import CircuitTracerTranscoder
from saes.formats.connor_rob_hook_z import ConnorRobHookZ
from saes.formats.crosscoder import Crosscoder
from saes.formats.deepseek_r1 import DeepSeekR1
from saes.formats.dictionary_learning import DictionaryLearning
from saes.formats.folder import FolderSource
from saes.formats.gemma_scope_1 import GemmaScope1
from saes.formats.gemma_scope_2 import GemmaScope2
from saes.formats.goodfire import Goodfire
from saes.formats.llama_scope import LlamaScope
from saes.formats.llama_scope_r1_distill import LlamaScopeR1Distill
from saes.formats.mistudio import MiStudio
from saes.formats.openai import OpenAi
from saes.formats.openmoss import OpenMoss
from saes.formats.qwen_scope import QwenScope
from saes.formats.remembering import Remembering
from saes.formats.saelens import SaeLens
from saes.formats.saev import Saev
from saes.formats.sparsify import Sparsify
from saes.formats.temporal import Temporal

FORMATS: tuple[Format, ...] = (
    SaeLens(),
    Sparsify(),
    DictionaryLearning(),
    LlamaScope(),
    LlamaScopeR1Distill(),
    OpenMoss(),
    GemmaScope1(),
    GemmaScope2(),
    CircuitTracerClt(),
    CircuitTracerTranscoder(),
    Temporal(),
    Saev(),
    OpenAi(),
    QwenScope(),
    Goodfire(),
    DeepSeekR1(),
    ConnorRobHookZ(),
    Crosscoder(),
    Apollo(),
    MiStudio(),
    Bare(),
)

__all__ = [
    "FORMATS", "ArchiveSource", "FolderSource", "Found", "by_slug", "find_saes", "identify",
    "only_sae",
]  # fmt: skip


@dataclass(frozen=True)
class Found:
    """One SAE by its names: its folder or file, and the slug of the format it seems to be in."""

    where: str
    format: str


def find_saes(names: Tree | Iterable[str], repo_id: str | None = None) -> list[Found]:
    """Every SAE once: the first format that knows a folder or file owns it. From names alone."""
    tree = names if isinstance(names, Tree) else Tree(names, repo_id)
    owners, owned = dict[str, str](), set[str]()
    for family in FORMATS:
        for where in family.find(tree):
            if where not in owners and where not in owned:
                owners[where] = family.slug
                owned.update(family.files(tree, where))
    return [Found(where, owners[where]) for where in sorted(owners)]


def only_sae(tree: Tree, where: str | None = None) -> str:
    """The SAE at, in or around `where`. Raises SeveralSaes, UnknownFormat."""
    place = (where or ROOT).strip("/") or ROOT
    near = tree if place == ROOT else _around(tree, place)
    found = find_saes(near)
    for it in found:
        if place == it.where or place in by_slug(it.format).files(near, it.where):
            return it.where
    inner = [it.where for it in found if place == ROOT or it.where.startswith(f"{place}/")]
    if len(inner) > 1:
        raise SeveralSaes(f"There are {len(inner)} SAEs here.", inner)
    if not inner and where is None:
        refusals = {family.label: f"It looks for {family.looks_for}." for family in FORMATS}
        raise UnknownFormat("No SAE was found here.", refusals)
    return inner[0] if inner else place  # by its name it is none, but its content may be


def _around(tree: Tree, place: str) -> Tree:
    """A folder; or what lies beside a file and, as its SAE may lie there, in the folders above."""
    near, folder = tree.near(place), parent(place)
    if place not in tree.names:
        return near
    names = set(near.names)
    for _ in range(LEVELS_ABOVE):
        folder = parent(folder)
        names.update(inside(folder, base) for base in tree.folders.get(folder, ()))
    return Tree(names, tree.repo_id)


def identify(source: Source, where: str, given: Given | None = None) -> tuple[Format, SaeInfo]:
    """The family by what the files hold. "Mine, but broken" is raised at once."""
    source, refusals = Remembering(source), dict[str, str]()
    for family in FORMATS:
        try:
            return family, family.probe(source, where, given or {})
        except NotThisFormat as refusal:
            refusals[family.label] = str(refusal)
    raise UnknownFormat(f"`{where[:200]}` is in none of the known formats.", refusals)


def by_slug(slug: str) -> Format:
    for family in FORMATS:
        if family.slug == slug:
            return family
    raise UnknownFormat(f"There is no format {slug[:50]}.")
