"""Hub tokens and the Hub's own word on them: adding one that was asked about, testing one."""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.utils import timezone

from saes import services, vault
from saes.errors import AccessDenied, BadToken, SaeError
from saes.hub import Identity
from saes.models import HubToken

PATIENCE = 20.0  # seconds that somebody waits for the Hub's answer
REFUSED = (BadToken, AccessDenied)


@dataclass(frozen=True)
class Added:
    row: HubToken
    replaced: bool  # one of this name
    untested: SaeError | None = None  # why the Hub told nothing of it


def look_up(token: str) -> Identity:
    """Whose it is and what it may. Raises BadToken, and what else the Hub says."""
    return services.hub_with(token, patience=PATIENCE).whoami()


def add(user: User, name: str, token: str) -> Added:
    """Keep a token that the Hub knows, or that it cannot be asked about now.

    Raises BadToken and AccessDenied, where the Hub refuses it: then nothing is stored.
    """
    identity, untested = None, None
    try:
        identity = look_up(token)
    except REFUSED:
        raise
    except SaeError as error:
        untested = error
    replaced = user.hub_tokens.filter(name=name, for_one_job=False).exists()
    row = vault.keep(user, token, name)
    if identity:
        _note(row, identity)
    return Added(row, replaced, untested)


def test(row: HubToken) -> None:
    """Ask about a stored one; what the Hub says of it is noted on the row, also a refusal.

    Raises BadToken where it cannot be read, and what hinders the Hub from answering.
    """
    token = vault.opened(row)
    try:
        identity = look_up(token)
    except REFUSED as error:
        _note(row, None, str(error))
    else:
        _note(row, identity)


def _note(row: HubToken, identity: Identity | None, refusal: str = "") -> None:
    row.tested_at, row.test_error = timezone.now(), refusal[:500]
    if identity:  # whose it was is still of use when it has been revoked
        row.identity = identity.to_json()
    # Of the very token that was asked about: another may have come under its name.
    asked = HubToken.objects.filter(id=row.id, created_at=row.created_at)
    asked.update(identity=row.identity, tested_at=row.tested_at, test_error=row.test_error)
