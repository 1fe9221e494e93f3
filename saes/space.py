"""What the library takes on the disk, from rows alone: a page costs no look at the files."""

import shutil
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db.models import Case, Count, F, OuterRef, Q, QuerySet, Subquery, Sum, Value, When
from django.db.models.functions import Coalesce, Greatest

from saes import room
from saes.models import WORTH_SHARING, Job, Sae, SaeFile
from saes.progress import Stage
from saes.storage import disk_errors

Kind = SaeFile.Kind
SLOW, REMEMBERED = 0.25, 60  # seconds: with 100,000 SAEs the sums cost more than the page


# --- how much there is ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """Bytes of the library on the disk: what several SAEs share is counted once."""

    source: int
    native: int
    export: int
    shared: int  # that the disk would hold more without sharing
    parts: int
    saes: int  # that have files

    @property
    def library(self) -> int:
        return self.source + self.native + self.export


def sums() -> Sums:
    key = f"storage-sums-{hash(settings.DATA_DIR)}"
    known: Sums | None = cache.get(key)
    if known is not None:
        return known
    begun = time.monotonic()
    found = _count()
    if time.monotonic() - begun > SLOW:  # a small library is always told as it is
        cache.set(key, found, REMEMBERED)
    return found


@dataclass(frozen=True)
class Segment:
    """A part of a bar: its colour's name, its label, its bytes and its place in percent."""

    name: str
    label: str
    size: int
    start: float
    width: float


@dataclass(frozen=True)
class Disk:
    """The whole disk, and what of it is this library's."""

    total: int  # that this program may use: some is the system's own
    free: int
    ours: int
    whole: list[Segment]
    library: list[Segment]


def disk(sums: Sums, kept: int, uploads: int = 0) -> Disk:
    """Raises DataMissing."""
    with disk_errors():
        _, used, free = shutil.disk_usage(settings.DATA_DIR)
    ours, promised = sums.library + sums.parts + kept + uploads, min(room.promised(), free)
    whole = [
        ("ours", "miStudio", ours), ("other", "Other use", max(0, used - ours)),
        ("promised", "Promised to running jobs", promised), ("free", "Free", free - promised),
    ]  # fmt: skip
    library = [
        ("source", "Sources", sums.source), ("native", "Converted", sums.native),
        ("export", "Exports", sums.export), ("parts", "Unfinished", sums.parts),
        ("kept", "Kept files", kept), ("uploads", "Uploads", uploads),
    ]  # fmt: skip
    return Disk(used + free, free, ours, _segments(whole), _segments(library))


def _segments(named: list[tuple[str, str, int]]) -> list[Segment]:
    """Side by side. What is there at all is wide enough to be seen."""
    whole = sum(size for _, _, size in named) or 1
    widths = [max(size / whole * 100, 0.5 if size else 0.0) for _, _, size in named]
    scale = 100 / (sum(widths) or 1)
    starts = [sum(widths[:number]) * scale for number in range(len(widths))]
    return [
        Segment(*it, start, width * scale)
        for it, start, width in zip(named, starts, widths, strict=True)
    ]


def _count() -> Sums:
    recorded = dict(SaeFile.objects.order_by().values_list("kind").annotate(Sum("size")))
    twice = _stored_once().aggregate(**_SAVED)
    saved = {kind: twice[kind] or 0 for kind in Kind.values}
    once = {kind: recorded.get(kind, 0) - saved[kind] for kind in Kind.values}
    saes = Sae.objects.filter(file_size_bytes__gt=0).count()
    return Sums(**once, shared=sum(saved.values()), parts=_parts(), saes=saes)


def _stored_once() -> QuerySet[SaeFile, Any]:
    """One row for each content that several files have, with how many of each kind do."""
    large = SaeFile.objects.filter(size__gte=WORTH_SHARING).order_by()
    several = large.values("sha256").annotate(n=Count("id")).filter(n__gt=1).values("sha256")
    of_kind = {f"of_{kind}": Count("id", Q(kind=kind)) for kind in Kind.values}
    return large.filter(sha256__in=several).values("sha256", "size").annotate(**of_kind)


def _saved(kind: str, *before: str) -> Sum:
    """The one copy on the disk is put down to the first kind that has it."""
    taken = [When(**{f"of_{it}__gt": 0}, then=F(f"of_{kind}")) for it in before]
    spare = Case(*taken, default=Greatest(F(f"of_{kind}") - 1, Value(0)))
    return Sum(spare * F("size"))


_SAVED = {
    Kind.SOURCE.value: _saved("source"),
    Kind.NATIVE.value: _saved("native", "source"),
    Kind.EXPORT.value: _saved("export", "source", "native"),
}


def _parts() -> int:
    """Of downloads that are not done, by what their jobs say."""
    newest = Job.objects.filter(sae=OuterRef("id"), kind=Job.Kind.DOWNLOAD).order_by("-created_at")
    whole = SaeFile.objects.filter(sae=OuterRef("id"), kind=Kind.SOURCE).order_by()
    under_way = (
        Sae.objects.exclude(status=Sae.Status.READY)
        .exclude(error_code="cancelled")
        .annotate(
            done=Subquery(newest.values("bytes_done")[:1]),
            stage=Subquery(newest.values("stage")[:1]),
            had=Coalesce(Subquery(whole.values("sae").annotate(all=Sum("size")).values("all")), 0),
        )
        .filter(stage=Stage.DOWNLOADING, done__gt=F("had"))
    )
    return under_way.aggregate(all=Sum(F("done") - F("had")))["all"] or 0


@dataclass(frozen=True)
class Large:
    """An SAE, and what removing it, or its source alone, would give back: by the records."""

    sae: Sae
    freed: int
    freed_by_source: int
    removable: bool  # its source
    share: float  # of the largest one's size, in percent
    freed_share: float


def largest(most: int) -> list[Large]:
    saes = list(Sae.objects.filter(file_size_bytes__gt=0).order_by("-file_size_bytes")[:most])
    at_work = set(Job.objects.active().filter(sae__in=saes).values_list("sae_id", flat=True))
    files: dict[str, list[SaeFile]] = {sae.id: [] for sae in saes}
    for row in SaeFile.objects.filter(sae__in=saes).only("sae_id", "kind", "size", "sha256"):
        files[row.sae_id].append(row)
    users = _users_of(files)
    widest = saes[0].file_size_bytes / 100 if saes else 1
    return [_large_one(sae, files[sae.id], users, sae.id in at_work, widest) for sae in saes]


@dataclass(frozen=True)
class Users:
    """Who has some contents: the SAEs that are shown, as what; and whether any other has it."""

    shown: dict[str, list[tuple[str, str]]]
    all: dict[str, int]  # files with this content

    def are_within(self, sha256: str, going: set[tuple[str, str]]) -> bool:
        shown = self.shown[sha256]
        return len(shown) == self.all.get(sha256) and going.issuperset(shown)


def _users_of(files: dict[str, list[SaeFile]]) -> Users:
    shown: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for sae_id, rows in files.items():
        for row in filter(_is_large, rows):
            shown[row.sha256].append((sae_id, row.kind))
    same = SaeFile.objects.filter(sha256__in=shown).order_by().values_list("sha256")
    return Users(shown, dict(same.annotate(Count("id"))))


def _large_one(sae: Sae, files: list[SaeFile], users: Users, at_work: bool, widest: float) -> Large:
    source = [row for row in files if row.kind == Kind.SOURCE]
    whole = {(sae.id, kind) for kind in Kind.values}
    freed = _freed(files, users, whole)
    idle = sae.status == Sae.Status.READY and not at_work
    return Large(
        sae, freed, _freed(source, users, {(sae.id, Kind.SOURCE.value)}),
        idle and bool(source) and not sae.kept_because,
        sae.file_size_bytes / widest, freed / widest,
    )  # fmt: skip


def _freed(files: list[SaeFile], users: Users, going: set[tuple[str, str]]) -> int:
    small = sum(row.size for row in files if not _is_large(row))
    large = {row.sha256: row.size for row in files if _is_large(row)}
    return small + sum(size for sha256, size in large.items() if users.are_within(sha256, going))


def _is_large(row: SaeFile) -> bool:
    return row.size >= WORTH_SHARING and bool(row.sha256)
