"""Writes what a running job does into its row, and nudges whoever watches.

The row belongs to the worker that holds its lease. A write that finds the lease gone means that
the job was cancelled, deleted or taken over: the work stops there.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone
from redis.exceptions import RedisError

from saes.models import Job, Published, Sae
from saes.progress import Stage, Stopped

WRITE_EVERY = 0.25  # seconds
HEARTBEAT_EVERY = 1.0
SPEED_MEMORY = 5.0  # seconds: how much of the past the shown speed averages

# Where each stage begins and ends on the whole job's bar, in percent.
SPANS: dict[str, dict[Stage, tuple[float, float]]] = {
    Job.Kind.DOWNLOAD: {
        Stage.LOOKING: (0, 1),
        Stage.DOWNLOADING: (1, 80),
        Stage.CONVERTING: (80, 90),
        Stage.VERIFYING: (90, 99),
    },
    Job.Kind.IMPORT: {
        Stage.LOOKING: (0, 2),
        Stage.COPYING: (2, 45),
        Stage.CONVERTING: (45, 70),
        Stage.VERIFYING: (70, 99),
    },
    Job.Kind.CONVERT: {
        Stage.LOOKING: (0, 10),
        Stage.CONVERTING: (10, 55),
        Stage.VERIFYING: (55, 99),
    },
    Job.Kind.VERIFY: {Stage.VERIFYING: (0, 99)},
    Job.Kind.EXPORT: {
        Stage.CONVERTING: (0, 50),
        Stage.VERIFYING: (50, 99),
    },
    Job.Kind.PUBLISH: {
        Stage.CONVERTING: (0, 50),
        Stage.UPLOADING: (50, 95),
        Stage.VERIFYING: (95, 99),
    },
}
EVERY_SAE = "saes"  # the channel-layer group of those who watch the whole library


def group_of(sae_id: str) -> str:
    """The channel-layer group of everyone who watches this SAE."""
    return f"sae.{sae_id}"


def nudge(*sae_ids: str, also: Sequence[str] = ()) -> None:
    """Tell watchers to look again. It carries nothing: they read the rows themselves.

    `also`: SAEs of which only those hear who watch the whole library.
    """
    layer = get_channel_layer()
    if layer is None or not sae_ids:
        return
    try:
        async_to_sync(_nudge)(layer, sae_ids, [*sae_ids, *also])
    except (RedisError, OSError):
        return  # the rows are written; pages poll while the channel layer is away


async def _nudge(layer: Any, sae_ids: Sequence[str], every: Sequence[str]) -> None:
    for sae_id in sae_ids:
        await layer.group_send(group_of(sae_id), {"type": "look.again", "sae_ids": [sae_id]})
    await layer.group_send(EVERY_SAE, {"type": "look.again", "sae_ids": list(every)})


def carry_over(*jobs: Job) -> None:
    """The jobs' states become their SAEs', and watchers are nudged once that is committed.

    Call it in the transaction that wrote the jobs: between two, a cancel could be overwritten.
    """
    statuses: dict[str, list[str]] = defaultdict(list)
    for job in jobs:
        if job.brings_in:
            statuses[job.sae_status()].append(job.sae_id)
    for status, sae_ids in statuses.items():
        Sae.objects.filter(id__in=sae_ids).update(status=status, updated_at=timezone.now())
    also = _published_with(jobs)
    transaction.on_commit(lambda: nudge(*(job.sae_id for job in jobs), also=also))


def _published_with(jobs: Sequence[Job]) -> list[str]:
    """The other SAEs of what these jobs publish."""
    publications = {job.publication_id for job in jobs if job.publication_id}
    if not publications:
        return []
    rows = Published.objects.filter(publication__in=publications).exclude(sae=None)
    return [str(sae_id) for sae_id in rows.values_list("sae_id", flat=True)]


class JobReporter:
    """The Reporter of a job. Use it as a context: it keeps a heartbeat in a thread of its own."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._former = (job.stage, job.bytes_done, job.bytes_total)  # of an attempt before
        self._written_at = 0.0
        self._speed = Speed()
        self._gone = threading.Event()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._heart.join()

    def say(
        self, stage: Stage, message: str, *, file: str = "", index: int = 0, count: int = 0
    ) -> None:
        job = self.job
        if stage != job.stage:
            # A later attempt comes to a stage again: its bytes begin where they were, not at 0.
            former, done, total = self._former
            job.bytes_done, job.bytes_total = (done, total) if stage == former else (0, 0)
        if stage != job.stage or not file:  # the next file of many does not change the speed
            job.bytes_per_second = 0
            self._speed = Speed()
        job.stage, job.message, job.file_name = stage, message, file
        job.file_index, job.file_count = index or job.file_index, count or job.file_count
        self._write()

    def advance(self, done: int, total: int) -> None:
        self.stop_if_cancelled()
        job = self.job
        if total != job.bytes_total:
            job.bytes_done, job.bytes_total = 0, total
        job.bytes_done = max(job.bytes_done, min(done, total))
        job.bytes_reserved = still_to_write(job)
        start, end = SPANS[job.kind].get(Stage(job.stage), (0, 0))
        here = start + (end - start) * (job.bytes_done / total if total else 0)
        job.progress = max(job.progress, here)
        job.bytes_per_second = self._speed.at(done)
        if time.monotonic() - self._written_at >= WRITE_EVERY:
            self._write()

    def stop_if_cancelled(self) -> None:
        if self._gone.is_set():
            raise Stopped

    def _write(self) -> None:
        """Every state that is shown goes through here, at most four times a second by advance()."""
        self.stop_if_cancelled()
        job = self.job
        job.version += 1
        self._written_at = time.monotonic()
        try:
            held = self._write_row()
        except OperationalError:
            return  # the database is busy; the next write says all of it
        if not held:
            self._gone.set()
            raise Stopped

    @transaction.atomic
    def _write_row(self) -> bool:
        job = self.job
        held = Job.objects.held(job).update(
            stage=job.stage, message=job.message, file_name=job.file_name,
            file_index=job.file_index, file_count=job.file_count, bytes_done=job.bytes_done,
            bytes_total=job.bytes_total, bytes_per_second=job.bytes_per_second,
            bytes_reserved=job.bytes_reserved, progress=job.progress, version=job.version,
            heartbeat_at=Now(),
        )  # fmt: skip
        if held:
            carry_over(job)
        return bool(held)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_EVERY):
            try:
                if not Job.objects.held(self.job).update(heartbeat_at=Now()):
                    self._gone.set()
            except DatabaseError:
                continue  # busy for a moment; a lease lasts many beats
        connection.close()


def still_to_write(job: Job) -> int:
    """Bytes of disk that the job will still take: the rest of the files, and their conversion."""
    left = job.bytes_total - job.bytes_done
    if job.stage == Stage.COPYING and job.sae.placement != Sae.Placement.COPY:
        return job.bytes_total  # the conversion alone
    if job.stage in (Stage.DOWNLOADING, Stage.COPYING):
        return left + job.bytes_total
    if job.stage == Stage.CONVERTING:
        return left
    return job.bytes_reserved if job.stage == Stage.LOOKING else 0


class Speed:
    """Bytes per second, averaged over the last seconds."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def at(self, done: int) -> float:
        now = time.monotonic()
        if self._seen and now - self._seen[-1][0] < 0.1:
            return self._rate(now, done)
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > SPEED_MEMORY:
            self._seen.pop(0)
        return self._rate(now, done)

    def _rate(self, now: float, done: int) -> float:
        then, before = self._seen[0]
        # Less than half a second tells noise, not a speed.
        return max(0.0, (done - before) / (now - then)) if now - then > 0.5 else 0.0
