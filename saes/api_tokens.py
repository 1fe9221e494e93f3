"""Tokens of the API: made once, shown once, kept as a hash."""

import hashlib
import secrets
from contextlib import suppress
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import OperationalError
from django.utils import timezone

from saes.errors import BadApiToken, NotFound
from saes.models import ApiToken

PREFIX = "mis_"
USED_EVERY = timedelta(minutes=1)  # how exactly the last use is noted: a write for each is too many


def create(
    owner: User, name: str, scope: str = ApiToken.Scope.READ, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """A new row, and the token itself, which is not kept."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = ApiToken.objects.create(
        owner=owner, name=name, scope=scope, expires_at=expires_at, digest=_digest(token),
        last_four=token[-4:],
    )  # fmt: skip
    return row, token


def _digest(token: str) -> str:
    # No slow hash: 256 random bits cannot be guessed, and each request is checked.
    return hashlib.sha256(token.encode()).hexdigest()


def from_header(text: str) -> ApiToken:
    """The row of the token in a header Authorization. Raises BadApiToken."""
    kind, _, token = text.partition(" ")
    if kind.lower() != "bearer":
        raise BadApiToken("Authorization must be `Bearer` and an API token.")
    return check(token.strip())


def check(token: str) -> ApiToken:
    """The row of a token that is good now. Raises BadApiToken."""
    row = ApiToken.objects.select_related("owner").filter(digest=_digest(token)).first()
    if row is None or not row.is_good or not row.owner.is_active:
        raise BadApiToken("This API token is wrong, has expired or was revoked.")
    now = timezone.now()
    if row.last_used_at is None or now - row.last_used_at > USED_EVERY:
        with suppress(OperationalError):  # while the database is busy, who only reads goes on
            ApiToken.objects.filter(id=row.id).update(last_used_at=now)
    return row


def revoke(owner: User, token_id: int) -> None:
    """For good, at once. Raises NotFound for a token of somebody else."""
    mine = ApiToken.objects.filter(owner=owner, id=token_id)
    if not mine.exists():
        raise NotFound("There is no such API token of yours.")
    mine.filter(revoked_at=None).update(revoked_at=timezone.now())
