"""What a repository holds, before anything is downloaded: one row for each SAE."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from saes import converter
from saes.errors import SaeError
from saes.formats import FORMATS, Found, by_slug, find_saes
from saes.formats.base import SaeInfo, Tree
from saes.hub import Hub, HubSource, Listing, RepoRef
from saes.models import Sae

KEPT_FILES = 50_000  # of all previews together; they take about 30 MB
KEPT_SECONDS = 600


@dataclass(frozen=True)
class Row:
    """One SAE as names alone tell it."""

    where: str
    format: str
    label: str
    layer: int | None
    hook_type: str
    width: str  # as the name says it: "16k" may be 16,000 or 16,384
    l0: int | str | None  # Gemma Scope 2 says small, medium, big
    size: int

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """Layer, width and L0 as numbers: layer 10 comes after layer 9."""
        l0 = (0, self.l0, "") if isinstance(self.l0, int) else (1, 0, self.l0 or "")
        layer = -1 if self.layer is None else self.layer
        return (self.hook_type, layer, width_as_number(self.width), l0, self.where)


def width_as_number(width: str) -> float:
    """For sorting: 16k before 131k before 1m."""
    factor = {"k": 1e3, "m": 1e6}.get(width[-1:], 1)
    digits = width.rstrip("km")
    return float(digits) * factor if digits else -1


@dataclass
class Preview:
    """A repository at one commit, its SAEs, and why each format refused where there are none."""

    listing: Listing
    source: HubSource
    rows: list[Row]
    refusals: Mapping[str, str]
    access_problem: SaeError | None = None
    headers: dict[str, SaeInfo] = field(default_factory=dict)
    made_at: float = field(default_factory=time.monotonic)

    def header(self, where: str) -> SaeInfo:
        """True shapes, dtype and architecture, by a few small ranged reads. Raises SaeError."""
        if where not in self.headers:
            self.headers[where] = converter.inspect(self.source, where)
        return self.headers[where]


_previews: OrderedDict[tuple[Any, ...], Preview] = OrderedDict()
_lock = threading.Lock()


def look(hub: Hub, ref: RepoRef, asker: object) -> Preview:
    """Preview of a repository. The Hub is asked each time who may see it and what is newest.

    `asker` tells apart who asked with which token: nobody is served what another's token opened.
    """
    pinned, info = hub.resolve(ref)
    key = (hub.endpoint, asker, pinned)
    kept = _kept(key)
    if kept and kept.access_problem is None:  # terms may have been accepted since
        return kept
    return _keep(key, _make(hub, hub.listing(pinned, info)))


def again(hub: Hub, pinned: RepoRef, asker: object) -> Preview:
    """The same preview while it is kept, without asking the Hub: for headers of its rows."""
    return _kept((hub.endpoint, asker, pinned)) or look(hub, pinned, asker)


def _kept(key: tuple[Any, ...]) -> Preview | None:
    with _lock:
        preview = _previews.get(key)
        if preview and time.monotonic() - preview.made_at < KEPT_SECONDS:
            _previews.move_to_end(key)
            return preview
    return None


def _keep(key: tuple[Any, ...], preview: Preview) -> Preview:
    with _lock:
        _previews[key] = preview
        _previews.move_to_end(key)
        while len(_previews) > 1 and _files_kept() > KEPT_FILES:
            _previews.popitem(last=False)
    return preview


def _files_kept() -> int:
    return sum(len(preview.listing.files) for preview in _previews.values())


def _make(hub: Hub, listing: Listing) -> Preview:
    found = find_saes(listing.tree)
    rows = [row_of(listing.tree, sae, lambda name: listing.files[name].size) for sae in found]
    rows.sort(key=lambda row: row.sort_key)
    refusals = {} if rows else looked_for()
    preview = Preview(listing, HubSource(hub, listing), rows, refusals)
    if listing.gated and rows:
        preview.access_problem = _access_problem(hub, listing, rows[0])
    return preview


def looked_for() -> dict[str, str]:
    """What each format looks for, by its label: shown where there is no SAE."""
    return {format.label: format.looks_for for format in FORMATS}


def _access_problem(hub: Hub, listing: Listing, row: Row) -> SaeError | None:
    """Names of a gated repository are public, its bytes are not: ask for one file to know."""
    name = by_slug(row.format).files(listing.tree, row.where)[0]
    try:
        hub.locate(listing, listing.files[name])
    except SaeError as error:
        return error
    return None


def row_of(tree: Tree, found: Found, size_of: Callable[[str], int]) -> Row:
    """From names alone, and the sizes of its files."""
    where, format = found.where, by_slug(found.format)
    hints = {name: fact.value for name, fact in format.hints(tree, where).items()}
    size = sum(size_of(name) for name in format.files(tree, where))
    return Row(
        where, format.slug, format.label, hints.get("layer"), hints.get("hook_type") or "",
        hints.get("width") or "", hints.get("l0"), size,
    )  # fmt: skip


SHOWN_OF_SAE = (
    "id", "name", "status", "error_code", "missing_facts", "hf_filepath", "hf_commit",
)  # fmt: skip


def in_library(listing: Listing) -> dict[str, Sae]:
    """SAEs of this repository that are here already, by their path in it.

    Those of the listing's own commit come before those of another.
    """
    saes = Sae.objects.filter(hf_repo_id=listing.repo_id, hf_repo_type=listing.repo_type)
    found = saes.only(*SHOWN_OF_SAE).order_by("created_at")
    in_order = sorted(found, key=lambda sae: sae.hf_commit == listing.commit)
    return {sae.hf_filepath: sae for sae in in_order}
