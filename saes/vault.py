"""Tokens of the Hub: encrypted by a key file of their own, decrypted only where they are used."""

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from mistudio import keyfiles
from saes.errors import BadToken
from saes.models import HubToken

LONG_ENOUGH = 12  # of a shorter token four letters would tell too much


def _cipher() -> Fernet:
    path = settings.DATA_DIR / "vault.key"
    return Fernet(keyfiles.read_or_create(path, lambda: Fernet.generate_key().decode()))


def keep(owner: User | None, token: str) -> HubToken:
    """Store a user's token (or, without one, the server's own) in place of the one before."""
    row, _ = HubToken.objects.update_or_create(
        owner=owner,
        defaults={
            "secret": _cipher().encrypt(token.encode()).decode(),
            "last_four": token[-4:] if len(token) >= LONG_ENOUGH else "",
            "created_at": timezone.now(),
        },
    )
    return row


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


def of(user: User) -> HubToken | None:
    """The token that requests of this user go with: their own, else the server's."""
    own = HubToken.objects.filter(owner=user).first()
    return own or HubToken.objects.filter(owner=None).first()


def forget(user: User) -> None:
    HubToken.objects.filter(owner=user).delete()


def take_server_token(token: str) -> None:
    """HF_TOKEN as it was at start; an empty one takes the former one away."""
    if token:
        keep(None, token)
    else:
        HubToken.objects.filter(owner=None).delete()
