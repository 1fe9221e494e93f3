"""Looks at the whole data directory and changes nothing of it."""

import time
from collections.abc import Iterator

from django.db.models import Sum

from saes import services
from saes.doctor import places, twins
from saes.doctor.finding import Examined, Finding, Kind
from saes.doctor.of_sae import Check, Look, is_whole
from saes.models import Job, Sae, SaeFile
from saes.progress import Reporter, Stage
from saes.storage import disk_errors

PAGE = 500  # SAEs that are read at once
ORDER = {kind: number for number, kind in enumerate(Kind)}


class Hashing:
    """Reads files of ready SAEs again, and tells how far that is."""

    def __init__(self, progress: Reporter) -> None:
        ready = SaeFile.objects.filter(sae__status=Sae.Status.READY)
        self.total = ready.aggregate(all=Sum("size"))["all"] or 0
        self.progress, self.done = progress, 0
        progress.say(Stage.VERIFYING, "Reading every file again")

    def __call__(self, row: SaeFile) -> bool:
        whole = is_whole(row, lambda done: self.progress.advance(self.done + done, self.total))
        self.done += row.size
        return whole


def examine(verify: Reporter | None = None, seconds: float = 1e9) -> Examined:
    """Everything that does not agree; every file is hashed again where `verify` wants to see that.

    Raises DataAway: from a disk that is not mounted nothing is concluded.
    """
    shelf, end = services.library(), time.monotonic() + seconds
    shelf.require_there()
    check: Check = Hashing(verify) if verify else lambda row: True
    seen = Examined(at_work=Job.objects.active().count())
    with disk_errors():
        seen.findings += places.findings(shelf)
        for saes in _pages():
            if time.monotonic() > end:
                seen.complete = False
                break
            found = [it for sae in saes for it in Look(shelf, sae, check).findings()]
            seen.findings += _of_idle(found)
            seen.saes += len(saes)
        if seen.complete:
            seen.findings += _of_idle(list(twins.findings(shelf)))
    shelf.require_there()  # else it went while it was looked at
    seen.findings.sort(key=lambda it: (ORDER[it.kind], it.path))
    return seen


def _pages() -> Iterator[list[Sae]]:
    """Every SAE that no job is at work on, with its files."""
    last = ""
    idle = Sae.objects.exclude(jobs__state__in=Job.ACTIVE).order_by("id")
    columns = idle.only("name", "status", "error_code", "file_size_bytes", "hf_repo_id")
    while page := list(columns.filter(id__gt=last).prefetch_related("files")[:PAGE]):
        yield page
        last = page[-1].id


def _of_idle(findings: list[Finding]) -> list[Finding]:
    """Without those of SAEs that were deleted meanwhile, or that a job has begun with."""
    ids = {it.sae_id for it in findings}
    idle: set[str] = set()
    for part in services.in_parts(ids):
        rows = Sae.objects.filter(id__in=part).exclude(jobs__state__in=Job.ACTIVE)
        idle |= set(rows.values_list("id", flat=True))
    return [it for it in findings if it.sae_id in idle]
