"""The rows of work. A job's row is the truth; queue and socket only say "look again"."""

import secrets
import time
from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Case, Count, Q, Value, When
from django.db.models.functions import Now

from saes.models.ids import new_batch_id, new_job_id
from saes.models.library import Sae
from saes.models.publishing import Publication
from saes.progress import Resource, Stage

LONGEST_WAIT = 2 * 3600  # seconds
LEASE_SECONDS = 30  # a running job that was not heard of for so long has lost its worker


def last_turn() -> int:
    """Behind everything that waits now. What was moved to the front has turns below zero."""
    return time.time_ns() // 1000


class Batch(models.Model):
    """What was asked for at once: many SAEs of one commit, a job for each."""

    id = models.CharField(primary_key=True, max_length=32, default=new_batch_id, editable=False)
    name = models.CharField(max_length=200)
    hf_repo_id = models.CharField("repository", max_length=200, blank=True)
    hf_commit = models.CharField("commit", max_length=40, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="batches"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "batches"
        ordering: ClassVar[list[str]] = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.name


class JobQuerySet(models.QuerySet["Job"]):
    def active(self) -> "JobQuerySet":
        return self.filter(state__in=Job.ACTIVE)

    def due(self) -> "JobQuerySet":
        """Queued, and not waiting for a time that is still to come.

        No wait is that long: where one seems so, the clock was set back.
        """
        come = Q(wait_until=None) | Q(wait_until__lte=Now())
        come |= Q(wait_until__gt=Now() + timedelta(seconds=LONGEST_WAIT))
        return self.filter(come, state=Job.State.QUEUED)

    def in_turn(self) -> "JobQuerySet":
        """First what was moved to the front, then whoever has the fewest jobs running."""
        running = Job.objects.filter(state=Job.State.RUNNING).exclude(created_by=None)
        busy = running.order_by().values_list("created_by").annotate(n=Count("id"))
        # Counted before, not for each row: with thousands that wait, that would take seconds.
        ranks = [When(created_by=user, then=Value(n)) for user, n in busy]
        return self.annotate(
            rank=Case(When(turn__lt=0, then=Value(-1)), *ranks, default=Value(0))
        ).order_by("rank", "turn", "id")

    def claim_next(self, worker: str) -> "Job | None":
        """The job whose turn it is, for one caller only; None where nothing is to be done."""
        while (job_id := self.due().in_turn().values_list("id", flat=True).first()) is not None:
            if claimed := self.claim(job_id, worker):
                return claimed
        return None

    def claim(self, job_id: str, worker: str) -> "Job | None":
        """Queued becomes running, for one caller only; None where another was faster."""
        won = self.filter(id=job_id, state=Job.State.QUEUED).update(
            state=Job.State.RUNNING,
            lease=secrets.token_hex(8),
            worker=worker,
            heartbeat_at=Now(),
            started_at=Now(),
            wait_until=None,
            waits_for="",
            attempt=models.F("attempt") + 1,
            version=models.F("version") + 1,
        )
        return self.select_related("sae", "token").get(id=job_id) if won else None

    def lost(self) -> "JobQuerySet":
        """Running, but not heard of for a lease: by the database's clock, as heartbeats are."""
        limit = Now() - timedelta(seconds=LEASE_SECONDS)
        return self.filter(state=Job.State.RUNNING, heartbeat_at__lt=limit)

    def held(self, job: "Job") -> "JobQuerySet":
        """The row, if `job` still holds its lease: the filter of every write of a worker."""
        return self.filter(id=job.id, state=Job.State.RUNNING, lease=job.lease)


class Job(models.Model):
    """One piece of work. Everything that may be shown of it is in this row; no secret is."""

    class Kind(models.TextChoices):
        DOWNLOAD = "download", "Download"
        IMPORT = "import", "Import"
        CONVERT = "convert", "Convert"
        EXPORT = "export", "Export"
        VERIFY = "verify", "Verify"
        PUBLISH = "publish", "Publish"

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"  # expected: a sentence for the user
        CRASHED = "crashed", "Crashed"  # a bug: a reference for the user, a traceback for staff
        CANCELLED = "cancelled", "Cancelled"

    ACTIVE = (State.QUEUED, State.RUNNING, State.PAUSED)
    BRINGS_IN = (Kind.DOWNLOAD, Kind.IMPORT, Kind.CONVERT)  # its outcome is the SAE's own

    id = models.CharField(primary_key=True, max_length=32, default=new_job_id, editable=False)
    kind = models.CharField(max_length=16, choices=Kind)
    sae = models.ForeignKey(Sae, models.CASCADE, related_name="jobs")
    target = models.CharField(max_length=40, blank=True)  # the format of an export
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    batch = models.ForeignKey(Batch, models.SET_NULL, null=True, blank=True, related_name="jobs")
    publication = models.ForeignKey(
        Publication, models.CASCADE, null=True, blank=True, related_name="jobs"
    )  # its `sae` is the first of them then
    turn = models.BigIntegerField(default=last_turn)  # what is lower comes first
    wait_until = models.DateTimeField(null=True, blank=True)  # not claimed before that
    waits_for = models.CharField(
        max_length=8, blank=True, choices=[(str(it), it.title()) for it in Resource]
    )
    listed = models.BooleanField(default=True)  # on the page Activity, until it is cleared away
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="jobs"
    )
    token = models.ForeignKey("HubToken", models.SET_NULL, null=True, blank=True)

    stage = models.CharField(max_length=16, blank=True, choices=[(s, s.title()) for s in Stage])
    message = models.CharField(max_length=500, blank=True)
    file_name = models.CharField(max_length=700, blank=True)
    file_index = models.PositiveIntegerField(default=0)
    file_count = models.PositiveIntegerField(default=0)
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0)
    bytes_per_second = models.FloatField(default=0)
    progress = models.FloatField(default=0)  # of the whole job, 0 to 100, never lower than before
    bytes_reserved = models.BigIntegerField(default=0)  # on disk, still to be written

    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    error_solution = models.TextField(blank=True)
    traceback = models.TextField(blank=True)  # for staff

    attempt = models.PositiveIntegerField(default=0)
    deaths = models.PositiveIntegerField(default=0)  # in a row, without progress between
    progress_at_death = models.FloatField(default=-1)
    lease = models.CharField(max_length=16, blank=True)
    worker = models.CharField(max_length=300, blank=True)  # see saes/processes.py
    version = models.PositiveBigIntegerField(default=0)  # a page never replaces newer by older
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[JobQuerySet] = JobQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at", "-id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["-created_at", "-id"], name="job_newest"),  # the list as opened
            models.Index(fields=["created_by", "-created_at", "-id"], name="job_of_user"),
            models.Index(fields=["state", "turn"], name="job_by_turn"),
            models.Index(fields=["batch", "state"], name="job_of_batch"),
            models.Index(fields=["sae", "-created_at"], name="job_history"),
        ]
        permissions = (("control_any_job", "Can see and steer the jobs of others"),)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(progress__gte=0, progress__lte=100), name="progress_is_a_percentage"
            ),
            models.UniqueConstraint(
                fields=["sae"],
                condition=Q(state__in=["queued", "running", "paused"]),
                name="one_active_job_per_sae",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.sae_id}"

    @property
    def brings_in(self) -> bool:
        return self.kind in self.BRINGS_IN

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE

    @property
    def seconds_left(self) -> float | None:
        """Until the present stage ends, at its present speed; None while that is not known."""
        left = self.bytes_total - self.bytes_done
        if self.state != self.State.RUNNING or not self.bytes_per_second or left <= 0:
            return None
        return left / self.bytes_per_second

    def sae_status(self) -> str:
        """The status of the SAE while this is its newest job: the one place that says so."""
        if self.state == self.State.RUNNING:
            loading = self.stage in ("", Stage.LOOKING, Stage.DOWNLOADING)
            loading = loading and self.kind == self.Kind.DOWNLOAD
            return Sae.Status.DOWNLOADING if loading else Sae.Status.CONVERTING
        return {
            self.State.QUEUED: Sae.Status.PENDING,
            self.State.PAUSED: Sae.Status.PAUSED,
            self.State.DONE: Sae.Status.READY,
        }.get(self.State(self.state), Sae.Status.ERROR)
