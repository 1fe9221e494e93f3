"""The formats this project knows, in the order in which they are asked."""

from dataclasses import dataclass

from saes.errors import NotThisFormat, UnknownFormat
from saes.formats.base import Format, Given, SaeInfo, Source, Tree
from saes.formats.folder import FolderSource
from saes.formats.gemma_scope import GemmaScope
from saes.formats.mistudio import MiStudio
from saes.formats.saelens import SaeLens

FORMATS: tuple[Format, ...] = (SaeLens(), GemmaScope(), MiStudio())

__all__ = ["FORMATS", "FolderSource", "Found", "by_slug", "find_saes", "identify"]


@dataclass(frozen=True)
class Found:
    where: str
    format: Format


def find_saes(names: Tree | list[str], repo_id: str | None = None) -> list[Found]:
    """Every SAE once: the first format that knows a folder owns it. From names alone."""
    tree = names if isinstance(names, Tree) else Tree(names, repo_id)
    owners: dict[str, Format] = {}
    for family in FORMATS:
        for where in family.find(tree):
            owners.setdefault(where, family)
    return [Found(where, owners[where]) for where in sorted(owners)]


def identify(source: Source, where: str, given: Given | None = None) -> tuple[Format, SaeInfo]:
    """The family by what the files hold. "Mine, but broken" is raised at once."""
    refusals = {}
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
