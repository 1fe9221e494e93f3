"""The rows: an SAE, its files, the jobs that work on it, tokens and sign-in links.

The job row is the truth about work; the queue and the socket only say "look again".
"""

import secrets
from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from saes.formats.architectures import NOT_PLAIN
from saes.progress import Stage

LEASE_SECONDS = 30  # a running job that was not heard of for so long has lost its worker


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(6)}"


def new_sae_id() -> str:
    return new_id("sae")


def new_job_id() -> str:
    return new_id("job")


class Sae(models.Model):
    """One SAE of the library. Paths are relative to the data directory."""

    class Source(models.TextChoices):
        HUGGINGFACE = "huggingface", "Hugging Face"
        TRAINED = "trained", "Training"
        LOCAL = "local", "Local file"

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        DOWNLOADING = "downloading", "Downloading"
        CONVERTING = "converting", "Converting"
        READY = "ready", "Ready"
        ERROR = "error", "Error"
        PAUSED = "paused", "Paused"

    id = models.CharField(primary_key=True, max_length=32, default=new_sae_id, editable=False)
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    notes = models.TextField(blank=True)
    tags = models.JSONField(default=list, blank=True)

    source = models.CharField(max_length=16, choices=Source)
    hf_repo_id = models.CharField("repository", max_length=200, blank=True)
    hf_repo_type = models.CharField(max_length=8, default="model")
    hf_filepath = models.CharField("path in the repository", max_length=500, blank=True)
    hf_revision = models.CharField("revision asked for", max_length=200, blank=True)
    hf_commit = models.CharField("commit", max_length=40, blank=True)

    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    error_solution = models.TextField(blank=True)
    missing_facts = models.JSONField(default=list, blank=True)

    format = models.CharField(max_length=40, blank=True)
    facts = models.JSONField(default=dict, blank=True)  # name -> {"value": …, "origin": …}
    given_facts = models.JSONField(default=dict, blank=True)  # what users stated: name -> value
    tensors = models.JSONField(default=list, blank=True)
    certificate = models.JSONField(null=True, blank=True)
    # Copies of facts, for filters and sorting.
    model_name = models.CharField(max_length=200, blank=True)
    architecture = models.CharField(max_length=40, blank=True)
    layer = models.IntegerField(null=True, blank=True)
    hook_name = models.CharField(max_length=200, blank=True)
    hook_type = models.CharField(max_length=40, blank=True)
    d_in = models.PositiveIntegerField(null=True, blank=True)
    d_sae = models.PositiveIntegerField(null=True, blank=True)

    local_path = models.CharField(max_length=200, blank=True)
    file_size_bytes = models.BigIntegerField(default=0)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="saes"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    downloaded_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "SAE"
        verbose_name_plural = "SAEs"
        ordering: ClassVar[list[str]] = ["-created_at", "-id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["-created_at", "-id"], name="sae_newest"),  # the list as opened
            models.Index(fields=["status", "-created_at"], name="sae_by_status"),
            models.Index(fields=["hf_repo_id", "hf_filepath"], name="sae_by_repo"),
            # The list's other orders; without these every page of it sorts every row.
            models.Index(fields=["name", "id"], name="sae_by_name"),
            models.Index(fields=["layer", "d_sae", "id"], name="sae_by_layer"),
            models.Index(fields=["d_sae", "layer", "id"], name="sae_by_width"),
            models.Index(fields=["-file_size_bytes", "id"], name="sae_by_size"),
            # Values to filter by.
            models.Index(fields=["model_name"], name="sae_by_model"),
            models.Index(fields=["architecture"], name="sae_by_architecture"),
            models.Index(fields=["format"], name="sae_by_format"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def kept_because(self) -> str:
        """Why it is kept as it came instead of being converted; empty for what is converted."""
        return NOT_PLAIN.get(self.architecture, "")

    @property
    def active_job(self) -> "Job | None":
        return self.jobs.filter(state__in=Job.ACTIVE).order_by("-created_at").first()

    @property
    def last_job(self) -> "Job | None":
        return self.jobs.order_by("-created_at").first()


class SaeFile(models.Model):
    """One file of an SAE on disk, with the hash of the bytes that were written."""

    class Kind(models.TextChoices):
        SOURCE = "source", "As downloaded"
        NATIVE = "native", "Converted"

    sae = models.ForeignKey(Sae, models.CASCADE, related_name="files")
    kind = models.CharField(max_length=8, choices=Kind)
    path = models.CharField(max_length=700)  # relative to the SAE's own folder
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    verified_against = models.CharField(max_length=80, blank=True)  # the Hub's own hash

    class Meta:
        ordering: ClassVar[list[str]] = ["-kind", "path"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["sae", "path"], name="one_row_per_file"),
        ]

    def __str__(self) -> str:
        return self.path


class JobQuerySet(models.QuerySet["Job"]):
    def active(self) -> "JobQuerySet":
        return self.filter(state__in=Job.ACTIVE)

    def claim(self, job_id: str, worker: str) -> "Job | None":
        """Queued becomes running, for one caller only; None where another was faster."""
        won = self.filter(id=job_id, state=Job.State.QUEUED).update(
            state=Job.State.RUNNING,
            lease=secrets.token_hex(8),
            worker=worker,
            heartbeat_at=Now(),
            started_at=Now(),
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
        CONVERT = "convert", "Convert"

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"  # expected: a sentence for the user
        CRASHED = "crashed", "Crashed"  # a bug: a reference for the user, a traceback for staff
        CANCELLED = "cancelled", "Cancelled"

    ACTIVE = (State.QUEUED, State.RUNNING, State.PAUSED)

    id = models.CharField(primary_key=True, max_length=32, default=new_job_id, editable=False)
    kind = models.CharField(max_length=16, choices=Kind)
    sae = models.ForeignKey(Sae, models.CASCADE, related_name="jobs")
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
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
            models.Index(fields=["state"], name="job_by_state"),
            models.Index(fields=["sae", "-created_at"], name="job_history"),
        ]
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


class HubToken(models.Model):
    """A token of the Hub, encrypted. Without an owner it is the server's own (HF_TOKEN)."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="hub_token"
    )
    secret = models.TextField(editable=False)  # ciphertext; saes/vault.py holds the key
    last_four = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"hf_…{self.last_four}"


class SignInLink(models.Model):
    """A link that was printed on the terminal; it signs in once."""

    id = models.CharField(primary_key=True, max_length=43, default=secrets.token_urlsafe)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sign-in link of {self.user_id}"
