"""Tokens of the Hub: encrypted by a key file of their own, decrypted only where they are used."""

import hashlib
import hmac
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError
from django.db.models import QuerySet
from django.utils import timezone

from saes import vault_keys
from saes.errors import BadToken, NotFound
from saes.models import HubToken, Job

SERVERS = "HF_TOKEN"  # the name of the server's own
UNNAMED = "Token"  # of one that came without a name
LONGEST_REQUEST = timedelta(hours=1)
USED_EVERY = timedelta(minutes=1)  # how exactly the last use is noted: a write for each is too many
LONG_ENOUGH = 12  # of a shorter token four letters would tell too much


# --- a user's tokens ------------------------------------------------------------------------------


def of(user: User | None) -> HubToken | None:
    """The token that requests of this user go with: their usual one, else the server's."""
    return next(iter(standing(user)), None)


def standing(user: User | None) -> list[HubToken]:
    """Those that a user may choose from: their own, the usual one first, and the server's."""
    kept = HubToken.objects.filter(for_one_job=False)
    own = kept.filter(owner=user).order_by("-is_usual", "-created_at", "-id") if user else []
    return [*own, *kept.filter(owner=None)]


def named(user: User | None, name: str) -> HubToken:
    """The user's token of this name; the server's is named HF_TOKEN. Raises NotFound."""
    for row in standing(user):
        if row.name == name:
            return row
    # The name is not said again: a token may have been sent in its place.
    raise NotFound(
        "You have no Hub token of this name.",
        solution="The page Hub tokens lists those that you have; add it there.",
    )


def keep(owner: User | None, token: str, name: str = "") -> HubToken:
    """Store a user's token (or, without one, the server's own), in place of one of this name.

    A user's first one is the usual one.
    """
    name = name or (UNNAMED if owner else SERVERS)
    with _changing(owner) as kept:
        fresh = {**_hidden(token), "created_at": timezone.now(), "identity": None,
                 "tested_at": None, "test_error": "", "last_used_at": None}  # fmt: skip
        row, _ = kept.update_or_create(owner=owner, name=name, for_one_job=False, defaults=fresh)
        _have_a_usual(kept)
        row.refresh_from_db()
    return row


def make_usual(user: User, row_id: int) -> None:
    """Raises NotFound for a token of somebody else."""
    with _changing(user) as kept:
        _of_theirs(kept, row_id)
        kept.filter(is_usual=True).update(is_usual=False)
        kept.filter(id=row_id).update(is_usual=True)


def forget(user: User, row_id: int | None = None) -> None:
    """Remove one of a user's tokens, the usual one where none is named. The newest of the others is
    the usual one then. Raises NotFound for a token of somebody else."""
    with _changing(user) as kept:
        if row_id is None:
            kept.filter(is_usual=True).delete()
        else:
            _of_theirs(kept, row_id).delete()
        _have_a_usual(kept)


def settle(owner: User | None) -> None:
    """After rows were deleted by others, such as the admin: one is the usual one again."""
    with _changing(owner) as kept:
        _have_a_usual(kept)


def take_server_token(token: str) -> None:
    """HF_TOKEN as it was at start; an empty one takes the former one away."""
    row = HubToken.objects.filter(owner=None, for_one_job=False).first()
    if not token:
        HubToken.objects.filter(owner=None, for_one_job=False).delete()
    elif row is None or _opened(row) != token:
        keep(None, token)


@contextmanager
def _changing(owner: User | None) -> Iterator[QuerySet[HubToken]]:
    """The standing tokens of one owner, which nobody else changes meanwhile."""
    with vault_keys.storing():
        if owner:
            list(User.objects.select_for_update(no_key=True).filter(pk=owner.pk))
        yield HubToken.objects.filter(owner=owner, for_one_job=False)


def _of_theirs(kept: QuerySet[HubToken], row_id: int) -> HubToken:
    row = kept.filter(id=row_id).first()
    if row is None:
        raise NotFound("There is no such Hub token of yours.")
    return row


def _have_a_usual(kept: QuerySet[HubToken]) -> None:
    newest = kept.order_by("-is_usual", "-created_at", "-id").first()
    if newest and not newest.is_usual:
        kept.filter(id=newest.id).update(is_usual=True)


# --- for one job ----------------------------------------------------------------------------------


def keep_for_one_job(owner: User | None, token: str) -> HubToken:
    """Store a token that came with a request. Whoever gives it to a job wipes it at the end."""
    with vault_keys.storing():
        return HubToken.objects.create(owner=owner, for_one_job=True, **_hidden(token))


def wipe(row_ids: Collection[int]) -> None:
    """Remove tokens that were for this work alone; others stay, and what other jobs still need."""
    if row_ids:
        rows = HubToken.objects.filter(id__in=set(row_ids), for_one_job=True)
        rows.exclude(job__state__in=Job.ACTIVE).delete()


def wipe_unused(row: HubToken) -> None:
    """Remove a token for one job that no job took."""
    HubToken.objects.filter(id=row.id, for_one_job=True, job=None).delete()


def sweep() -> None:
    """Remove tokens for one job that lost it: whoever brought them was killed before it began."""
    limit = timezone.now() - LONGEST_REQUEST
    HubToken.objects.filter(for_one_job=True, job=None, created_at__lt=limit).delete()


# --- the token itself -----------------------------------------------------------------------------


def fingerprint(token: str | None) -> str:
    """Tells tokens apart, without telling any of them."""
    key = settings.SECRET_KEY.encode()
    return hmac.new(key, (token or "").encode(), hashlib.sha256).hexdigest()


def _hidden(token: str) -> dict[str, Any]:
    return {
        "secret": vault_keys.encrypt(token),
        "last_four": token[-4:] if len(token) >= LONG_ENOUGH else "",
    }


def reveal(row: HubToken | None) -> str | None:
    """The token itself, for a request to the Hub and nothing else; its use is noted.

    Raises BadToken.
    """
    if row is None:
        return None
    token = opened(row)
    _note_use(row)
    return token


def opened(row: HubToken) -> str:
    """The token itself, where that is no use of it. Raises BadToken."""
    token = _opened(row)
    if token is None:
        raise BadToken("The stored Hub token cannot be read with the key of this server.")
    return token


def _opened(row: HubToken) -> str | None:
    token = vault_keys.decrypt(row.secret)
    if token is None:  # read from the database before the vault got another key
        now = HubToken.objects.filter(id=row.id).values_list("secret", flat=True).first()
        token = vault_keys.decrypt(now) if now else None
    return token


def _note_use(row: HubToken) -> None:
    now = timezone.now()
    if row.last_used_at is None or now - row.last_used_at > USED_EVERY:
        with suppress(OperationalError):  # while the database is busy, who only reads goes on
            HubToken.objects.filter(id=row.id).update(last_used_at=now)
        row.last_used_at = now
