"""The rows of the library: SAEs and their files."""

import hashlib
from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import models

from saes.formats.architectures import NOT_PLAIN
from saes.formats.names import hub_name_in
from saes.models.ids import new_sae_id

if TYPE_CHECKING:
    from saes.models.work import Job

TRAINING, UPLOAD = "training:", "upload:"  # how roots of imports begin that are no folders of ours
WORTH_SHARING = 2**20  # bytes; smaller files may be written anew in place, and are not shared


def identity_of(*place: str) -> str:
    """Repository, its type, commit (or revision, until that is known) and path; or root, path and
    state of files on this machine.
    """
    return hashlib.sha256("\n".join(place).encode()).hexdigest()


class Sae(models.Model):
    """One SAE of the library. Paths are relative to the data directory, or to an import root."""

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

    class Placement(models.TextChoices):
        COPY = "copy", "Copy"
        LINK = "link", "Hard link"
        IN_PLACE = "in_place", "Leave in place"

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
    # Of imports: the root's name and the path below it, see folders.py; and how the files came.
    import_root = models.CharField(max_length=100, blank=True)
    import_path = models.CharField(max_length=500, blank=True)
    placement = models.CharField(max_length=8, choices=Placement, blank=True)
    training = models.ForeignKey(
        "Training", models.SET_NULL, null=True, blank=True, related_name="saes"
    )
    trained = models.JSONField(default=dict, blank=True)  # what the run's row said at the import
    # Hash of where it comes from (see identity_of): each is here once.
    identity = models.CharField(max_length=64, null=True, unique=True, editable=False)

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
            models.Index(fields=["import_root", "import_path"], name="sae_by_import"),
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
    def where(self) -> str:
        """Its folder or file in what it comes from, and in `source/`."""
        return self.hf_filepath or self.import_path or "."

    @property
    def is_upload(self) -> bool:
        return self.import_root.startswith(UPLOAD)

    @property
    def repo_id(self) -> str:
        """The repository that its files are of, where that is known."""
        return self.hf_repo_id or hub_name_in(self.import_path)

    @property
    def kept_because(self) -> str:
        """Why it is kept as it came instead of being converted; empty for what is converted."""
        return NOT_PLAIN.get(self.architecture, "")

    @property
    def active_jobs(self) -> "list[Job]":
        """Those at work on it, then those that publish it together with others."""
        others = self.jobs.model.objects.active().filter(publication__saes__sae=self)
        return [*self.jobs.active().order_by("-created_at"), *others.exclude(sae=self)]

    @property
    def active_job(self) -> "Job | None":
        return next(iter(self.active_jobs), None)

    @property
    def newest_job(self) -> "Job | None":
        """The one that its status comes from. Without a query where the jobs were prefetched."""
        return next((job for job in self.jobs.all() if job.brings_in), None)


class DataDirectory(models.Model):
    """The mark that says which data directory is meant: one row. See saes/mounted.py."""

    mark = models.CharField(max_length=32)
    placed = models.BooleanField(default=False)  # it was written there: a folder without is another

    class Meta:
        verbose_name_plural = "data directories"

    def __str__(self) -> str:
        return self.mark


class SaeFile(models.Model):
    """One file of an SAE on disk, with the hash of the bytes that were written."""

    class Kind(models.TextChoices):
        SOURCE = "source", "As it came"
        NATIVE = "native", "Converted"
        EXPORT = "export", "Export"

    sae = models.ForeignKey(Sae, models.CASCADE, related_name="files")
    kind = models.CharField(max_length=8, choices=Kind)
    path = models.CharField(max_length=700)  # relative to the SAE's own folder
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    verified_against = models.CharField(max_length=80, blank=True)  # the Hub's own hash
    certificate = models.JSONField(null=True, blank=True)  # of the export it is of

    class Meta:
        ordering: ClassVar[list[str]] = ["-kind", "path"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["sae", "path"], name="one_row_per_file"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            # The same bytes, elsewhere; with the next one, sums that read no rows.
            models.Index(fields=["sha256", "size", "kind"], name="file_by_hash"),
            models.Index(fields=["kind", "size"], name="file_by_kind"),
        ]

    def __str__(self) -> str:
        return self.path
