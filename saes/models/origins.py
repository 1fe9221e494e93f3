"""The rows of what SAEs are imported from: training runs, and uploads that wait to be imported."""

from typing import ClassVar

from django.conf import settings
from django.db import models

from saes.models.ids import new_training_id, new_upload_id


class Training(models.Model):
    """A training run of miStudio: what it was told, how it ended, and where its checkpoints lie."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        INITIALIZING = "initializing", "Initializing"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    id = models.CharField(primary_key=True, max_length=64, default=new_training_id)
    name = models.CharField(max_length=200)
    status = models.CharField(max_length=16, choices=Status, default=Status.COMPLETED)
    model_name = models.CharField(max_length=200, blank=True)
    datasets = models.JSONField(default=list, blank=True)  # their names
    hyperparameters = models.JSONField(default=dict, blank=True)
    current_step = models.PositiveIntegerField(null=True, blank=True)
    total_steps = models.PositiveIntegerField(null=True, blank=True)
    final_loss = models.FloatField(null=True, blank=True)
    final_l0 = models.FloatField(null=True, blank=True)
    directory = models.CharField(max_length=1000)  # absolute: it may lie on another disk
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_completed(self) -> bool:
        return self.status == self.Status.COMPLETED


class Upload(models.Model):
    """Files that a browser sent. They lie in a folder of their own until they are imported."""

    id = models.CharField(primary_key=True, max_length=32, default=new_upload_id, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="uploads"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now_add=True)  # when the last bytes came
    files = models.JSONField(default=list)  # [{"name": …, "size": …}], as they were announced
    size = models.BigIntegerField(default=0)  # of all of them, in bytes
    is_whole = models.BooleanField(default=False)

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at", "-id"]

    def __str__(self) -> str:
        """The file, or the folder that all of them lie in, or how many they are."""
        names = [file["name"] for file in self.files]
        tops = {name.partition("/")[0] for name in names}
        return tops.pop() if len(tops) == 1 else f"{len(names):,} files"

    @property
    def archive(self) -> str:
        """The name of its one file, where that is a zip."""
        names = [file["name"] for file in self.files]
        return names[0] if len(names) == 1 and names[0].lower().endswith(".zip") else ""
