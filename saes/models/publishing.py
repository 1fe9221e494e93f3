"""The rows of publishing: what was sent to the Hub, and what came of it."""

from typing import ClassVar

from django.conf import settings
from django.db import models

from saes.models.ids import new_publication_id
from saes.models.library import Sae


class Publication(models.Model):
    """What somebody confirmed to publish: one commit, of one SAE or of several."""

    id = models.CharField(
        primary_key=True, max_length=32, default=new_publication_id, editable=False
    )
    repo_id = models.CharField("repository", max_length=200)
    creates = models.BooleanField("creates the repository", default=False)
    public = models.BooleanField("everybody may see it", default=False)  # as it was confirmed
    # It is private until all is verified, and that it becomes public was confirmed; one that was
    # public may not be any more, and stays as its owner made it.
    makes_public = models.BooleanField("becomes public", default=False)
    created = models.BooleanField("it was created", default=False)
    license = models.CharField(max_length=40, blank=True)
    license_name = models.CharField(max_length=100, blank=True)
    license_link = models.CharField(max_length=300, blank=True)
    message = models.CharField("commit message", max_length=200)
    as_pull_request = models.BooleanField("as a pull request", default=False)
    # What was seen at the rehearsal: hashes of the files that are written, by path.
    seen = models.JSONField(default=dict)
    # Every file of it, by path: {"size": …, "sha256": …, "git_sha1": … of small ones}.
    sent = models.JSONField(default=dict)
    account = models.CharField("account on the Hub", max_length=200, blank=True)

    parent = models.CharField(max_length=40, blank=True)  # ours is to follow it; noted before
    commit = models.CharField(max_length=40, blank=True)
    commit_url = models.CharField(max_length=500, blank=True)
    pull_request = models.CharField(max_length=500, blank=True)  # its address
    verified_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True,
        related_name="publications",
    )  # fmt: skip
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.repo_id} ({self.id})"

    @property
    def everybody_sees(self) -> bool:
        """Now: what becomes public is private until it is verified."""
        return self.public and (not self.makes_public or self.verified_at is not None)


class Published(models.Model):
    """One SAE of a publication, and the folder of the repository that it went to."""

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="saes")
    sae = models.ForeignKey(Sae, models.SET_NULL, null=True, related_name="published")
    name = models.CharField(max_length=200)
    folder = models.CharField(max_length=300)
    digest = models.CharField(max_length=64, blank=True)  # of the SAE as it was confirmed

    class Meta:
        verbose_name_plural = "published SAEs"
        ordering: ClassVar[list[str]] = ["id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["publication", "folder"], name="one_sae_per_folder"),
        ]

    def __str__(self) -> str:
        return f"{self.name} in {self.folder}"
