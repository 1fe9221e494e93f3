"""The rows of access: tokens of the Hub, tokens of the API, links that sign in."""

import secrets
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone


class HubToken(models.Model):
    """A token of the Hub, encrypted. Without an owner it is the server's own (HF_TOKEN).

    A standing one has a name; its owner has one usual among them. One for one job has neither.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="hub_tokens"
    )
    name = models.CharField(max_length=100, blank=True)
    is_usual = models.BooleanField("usual", default=False)  # what requests go with, unless told
    secret = models.TextField(editable=False)  # ciphertext; saes/vault_keys.py holds the key
    last_four = models.CharField(max_length=4, editable=False)
    for_one_job = models.BooleanField(default=False, editable=False)  # wiped when that job ends
    created_at = models.DateTimeField(default=timezone.now)
    # Whose it is by the Hub's own word, see hub.Identity; and what the Hub said when it refused it.
    identity = models.JSONField(null=True, blank=True)
    tested_at = models.DateTimeField(null=True, blank=True)
    test_error = models.CharField(max_length=500, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["owner", "name"], condition=Q(for_one_job=False),
                name="one_hub_token_of_a_name",
            ),
            models.UniqueConstraint(
                fields=["owner"], condition=Q(is_usual=True), name="one_usual_hub_token"
            ),
            # To a database one NULL is not the other, so the two above do not hold for the server.
            models.UniqueConstraint(
                fields=["for_one_job"], condition=Q(owner=None, for_one_job=False),
                name="one_hub_token_of_the_server",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"hf_…{self.last_four}"


class ApiToken(models.Model):
    """Lets a program in as `owner`. The token itself is shown once; its hash alone is kept."""

    class Scope(models.TextChoices):
        READ = "read", "Read"
        WRITE = "write", "Read and write"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    scope = models.CharField(max_length=8, choices=Scope, default=Scope.READ)
    digest = models.CharField(max_length=64, unique=True, editable=False)  # sha256
    last_four = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API token"
        ordering: ClassVar[list[str]] = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_good(self) -> bool:
        expired = self.expires_at is not None and self.expires_at <= timezone.now()
        return self.revoked_at is None and not expired


class KeptAnswer(models.Model):
    """What a request with an Idempotency-Key was answered; without a body while it is at work."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    asked = models.CharField(max_length=64)  # keyed hash of method, path and body
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)  # old ones are dropped

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key"),
        ]

    def __str__(self) -> str:
        return f"answer to {self.key}"


class SignInLink(models.Model):
    """A link that was printed on the terminal; it signs in once."""

    id = models.CharField(primary_key=True, max_length=43, default=secrets.token_urlsafe)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sign-in link of {self.user_id}"
