"""Large files with the same hash that the disk holds more than once."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress

from django.db.models import Count

from saes import services
from saes.doctor.finding import Finding, Kind
from saes.doctor.folder import shown
from saes.models import WORTH_SHARING, Sae, SaeFile
from saes.storage import Library

Spare = tuple[SaeFile, os.stat_result]


def findings(shelf: Library) -> Iterator[Finding]:
    spare: dict[str, list[Spare]] = defaultdict(list)
    for rows in _alike():
        for row, found in _spare(shelf, rows):
            spare[row.sae_id].append((row, found))
    for files in spare.values():
        yield _finding(shelf, files[0][0].sae, files)


def _alike() -> Iterator[list[SaeFile]]:
    """Rows of the same hash, the oldest first: the others become names of that."""
    large = SaeFile.objects.filter(size__gte=WORTH_SHARING).exclude(sha256="")
    many = large.order_by().values("sha256").annotate(n=Count("id")).filter(n__gt=1)
    for part in services.in_parts(many.values_list("sha256", flat=True)):
        found: dict[str, list[SaeFile]] = defaultdict(list)
        for row in large.filter(sha256__in=part).select_related("sae").order_by("id"):
            found[row.sha256].append(row)
        yield from found.values()


def _spare(shelf: Library, rows: Sequence[SaeFile]) -> Iterator[Spare]:
    """Those that are not yet names of the first one that is there."""
    first: os.stat_result | None = None
    for row in rows:
        with suppress(FileNotFoundError, NotADirectoryError):
            found = (shelf.home(row.sae_id) / row.path).lstat()
            if found.st_size != row.size:
                continue  # damage, and told as such
            first = first or (None if _is_foreign(row) else found)
            if first and not os.path.samestat(first, found) and row.sae.status == Sae.Status.READY:
                yield row, found


def _is_foreign(row: SaeFile) -> bool:
    """A name of a file outside of the library: it may be written to there."""
    return row.kind == SaeFile.Kind.SOURCE and row.sae.placement == Sae.Placement.LINK


def _finding(shelf: Library, sae: Sae, files: list[Spare]) -> Finding:
    paths = tuple(row.path for row, _ in files)
    freed = {it.st_ino: it.st_size for _, it in files if it.st_nlink == 1}
    more = f", and {len(paths) - 1:,} more" if len(paths) > 1 else ""
    says = f"`{shown(paths[0])}` of {sae.name} is on the disk a second time{more}."
    place = f"{shelf.relative(shelf.home(sae.id))}/{shown(paths[0])}"
    repair = "Share one copy, once its hash is checked."
    return Finding(
        Kind.DUPLICATE, place, sum(freed.values()), says, repair,
        sae.id, sae.name, paths,
    )  # fmt: skip
