"""Room on the disk: set aside before a job begins, so that two do not count on the same bytes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import Q, Sum
from django.utils import timezone

from saes import services
from saes.errors import DiskFull
from saes.models import Job, Sae
from saes.models.work import LEASE_SECONDS
from saes.progress import NotNow, Resource
from saes.storage import MARGIN

LOOK_AGAIN = 20.0  # seconds, and up to as many more: two that wait shall not meet each time


def reserve(job: Job, needed: int) -> None:
    """Set bytes aside. Raises DiskFull with the numbers; NotNow while other jobs need the room.

    What others are making takes more while they are at it than in the end: drafts, parts, a source
    that is not kept. So nobody is refused for bytes that may be free again.
    """
    # The write is committed before the sum: of two jobs at once, the later one sees the other.
    Job.objects.held(job).update(bytes_reserved=needed)
    job.bytes_reserved = needed
    taken = promised(job)  # before what is free: what is written in between counts twice
    free = services.library().free()
    if not _may_fit(job, needed, free):
        raise DiskFull(
            f"This needs {needed:,} bytes; {free:,} are free, and {MARGIN:,} of them stay free."
        )
    if needed + taken + MARGIN > free:
        raise NotNow(
            f"Waits for room on the disk: this needs {needed:,} bytes; {free:,} are free, "
            f"{taken:,} of them promised to other jobs",
            Resource.DISK,
            LOOK_AGAIN * (1 + random.random()),
        )


def _may_fit(job: Job, needed: int, free: int) -> bool:
    """Whether there is room, or would be if others gave back all that they hold."""
    if needed + MARGIN <= free:
        return True
    held = _held_by_others(job)
    # They go on meanwhile: what they write was free before, what they give back is free after.
    return needed + MARGIN <= held + max(free, services.library().free())


def _held_by_others(job: Job) -> int:
    """Bytes in the folders of SAEs that other jobs are at work on, or were until a moment ago.

    A cancelled job wakes those that wait for the disk, and then its worker removes its files.
    """
    moment = timezone.now() - timedelta(seconds=LEASE_SECONDS)
    letting_go = Q(state=Job.State.CANCELLED, ended_at__gt=moment)
    at_work = Job.objects.filter(Q(state=Job.State.RUNNING) | letting_go)
    others = Sae.objects.filter(jobs__in=at_work).exclude(id=job.sae_id).distinct()
    return sum(map(services.bytes_on_disk, others))


def promised(job: Job | None = None) -> int:
    """Bytes that running jobs are still going to write; those of `job` are not counted."""
    others = Job.objects.filter(state=Job.State.RUNNING)
    if job is not None:
        others = others.exclude(id=job.id)
    return others.aggregate(total=Sum("bytes_reserved"))["total"] or 0


@dataclass(frozen=True)
class Need:
    """What SAEs of these sizes take, beside what is free now for what is new."""

    count: int
    fetched: int
    needed: int
    free: int  # without what running jobs are still going to write

    @property
    def left(self) -> int:
        return self.free - self.needed

    @property
    def short(self) -> int:
        return max(0, MARGIN - self.left)

    @property
    def fits(self) -> bool:
        return not (self.count and self.short)

    def refuse_too_much(self) -> None:
        """Raises DiskFull, with the numbers, where so many SAEs could never fit."""
        if not self.fits:
            raise DiskFull(
                f"These {self.count:,} SAEs need {self.needed:,} bytes with their conversion; "
                f"{max(0, self.free):,} are free that no running job needs.",
                solution="Choose fewer, or free some space.",
            )


def need_of(sizes: Sequence[int], *, copied: bool = True) -> Need:
    """Each SAE takes about its own size for the conversion, and as much again where `copied`."""
    fetched = sum(sizes)
    kept = fetched if settings.KEEP_SOURCE else max(sizes, default=0)
    needed = fetched + (kept if copied else 0)
    free = services.library().free() - promised()
    return Need(len(sizes), fetched, needed, free)
