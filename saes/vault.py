"""Tokens of the Hub: encrypted by a key file of their own, decrypted only where they are used."""

import hashlib
import hmac
from collections.abc import Collection
from datetime import timedelta

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from mistudio import keyfiles
from saes.errors import BadToken
from saes.models import HubToken, Job

LONGEST_REQUEST = timedelta(hours=1)
LONG_ENOUGH = 12  # of a shorter token four letters would tell too much


def _cipher() -> Fernet:
    path = settings.DATA_DIR / "vault.key"
    return Fernet(keyfiles.read_or_create(path, lambda: Fernet.generate_key().decode()))


def keep(owner: User | None, token: str) -> HubToken:
    """Store a user's token (or, without one, the server's own) in place of the one before."""
    row, _ = HubToken.objects.update_or_create(
        owner=owner, for_one_job=False, defaults={**_hidden(token), "created_at": timezone.now()}
    )
    return row


def keep_for_one_job(owner: User | None, token: str) -> HubToken:
    """Store a token that came with a request. Whoever gives it to a job wipes it at the end."""
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


def fingerprint(token: str | None) -> str:
    """Tells tokens apart, without telling any of them."""
    key = settings.SECRET_KEY.encode()
    return hmac.new(key, (token or "").encode(), hashlib.sha256).hexdigest()


def _hidden(token: str) -> dict[str, str]:
    return {
        "secret": _cipher().encrypt(token.encode()).decode(),
        "last_four": token[-4:] if len(token) >= LONG_ENOUGH else "",
    }


def reveal(row: HubToken | None) -> str | None:
    """The token itself, for a request to the Hub and nothing else. Raises BadToken."""
    if row is None:
        return None
    try:
        return _cipher().decrypt(row.secret.encode()).decode()
    except InvalidToken as error:
        raise BadToken(
            "The stored Hub token cannot be read with the key of this server."
        ) from error


def of(user: User | None) -> HubToken | None:
    """The token that requests of this user go with: their own, else the server's."""
    standing = HubToken.objects.filter(for_one_job=False)
    return standing.filter(owner=user).first() or standing.filter(owner=None).first()


def forget(user: User) -> None:
    HubToken.objects.filter(owner=user, for_one_job=False).delete()


def take_server_token(token: str) -> None:
    """HF_TOKEN as it was at start; an empty one takes the former one away."""
    if token:
        keep(None, token)
    else:
        HubToken.objects.filter(owner=None, for_one_job=False).delete()


def named(user: User | None, name: str) -> HubToken:
    raise NotImplementedError
