"""The rows of the library: SAEs and their files."""

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import models

from saes.formats.architectures import NOT_PLAIN
from saes.models.ids import new_sae_id

if TYPE_CHECKING:
    from saes.models.work import Job


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
    model_id = models.CharField(max_length=200, blank=True)  # of the client that asked for it
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
            models.Index(fields=["-updated_at", "-id"], name="sae_by_change"),
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
        return self.jobs.active().order_by("-created_at").first()

    @property
    def newest_job(self) -> "Job | None":
        """The one that its status comes from. Without a query where the jobs were prefetched."""
        return next((job for job in self.jobs.all() if job.brings_in), None)


class SaeFile(models.Model):
    """One file of an SAE on disk, with the hash of the bytes that were written."""

    class Kind(models.TextChoices):
        SOURCE = "source", "As downloaded"
        NATIVE = "native", "Converted"
        EXPORT = "export", "Export"

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
