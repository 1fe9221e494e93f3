"""The key of the vault: encrypting, decrypting, and taking a new one while others work.

`vault.key` holds one key in each line, the newest first: all of them decrypt, the first encrypts.
A new key is put first, then every row is encrypted with it, then the others are dropped. Whoever is
killed in between leaves several keys, which is no harm, and the next rotation drops them.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import connection, transaction

from mistudio import keyfiles
from saes import locks
from saes.errors import BadToken, Conflict
from saes.models import HubToken


@dataclass(frozen=True)
class Rotation:
    encrypted: int  # tokens that are encrypted with the new key now
    unreadable: int  # those that no key of the file could read, before and after


def encrypt(token: str) -> str:
    """With the newest key. Whoever stores the outcome does both inside of storing()."""
    return _cipher(_keys()).encrypt(token.encode()).decode()


def decrypt(secret: str) -> str | None:
    """None, where no key reads it. Raises BadToken where there is no key."""
    try:
        return _cipher(_keys()).decrypt(secret.encode()).decode()
    except InvalidToken:
        return None


@contextmanager
def storing() -> Iterator[None]:
    """Around encrypting and storing: a rotation comes before it as a whole, or after it.

    Else a token could be encrypted with the old key, and stored when that has been dropped.
    """
    with _in_turn("ROW EXCLUSIVE"):
        yield


def rotate() -> Rotation:
    """Encrypt all tokens with a new key. Raises Conflict during another rotation, and BadToken."""
    lock = locks.take(settings.DATA_DIR / "run" / "vault.lock")
    if lock is None:
        raise Conflict(
            "The vault gets a new key already.", solution="Wait until that command has ended."
        )
    with closing(lock):
        _cipher(old := _keys())  # a damaged file is left as it is
        _write(keys := [Fernet.generate_key().decode(), *old])
        with _on_disk_when_committed(), _in_turn("SHARE ROW EXCLUSIVE", outermost=True):
            done = _encrypt_all(_cipher(keys))
        _write(keys[:1])
    return done


def _encrypt_all(cipher: MultiFernet) -> Rotation:
    rows = list(HubToken.objects.only("secret"))
    unreadable = 0
    for row in rows:
        try:
            row.secret = cipher.rotate(row.secret).decode()
        except InvalidToken:
            unreadable += 1
    HubToken.objects.bulk_update(rows, ["secret"], batch_size=200)
    return Rotation(len(rows) - unreadable, unreadable)


@contextmanager
def _in_turn(mode: str, *, outermost: bool = False) -> Iterator[None]:
    """A transaction that may not overlap with those of other modes.

    On SQLite transactions begin with the one lock for writing (see settings.py), so the key is read
    while no rotation is under way. On PostgreSQL the two modes exclude each other.
    """
    with transaction.atomic(durable=outermost):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {HubToken._meta.db_table} IN {mode} MODE")
        yield


@contextmanager
def _on_disk_when_committed() -> Iterator[None]:
    """SQLite, as we use it, may lose its last commits in a power cut; the old key would be gone."""
    _synchronous("FULL")
    try:
        yield
    finally:
        _synchronous("NORMAL")


def _synchronous(how: str) -> None:
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA synchronous={how}")


# --- the file -------------------------------------------------------------------------------------


def _path() -> Path:
    return Path(settings.DATA_DIR / "vault.key")


def _keys() -> list[str]:
    """Read each time: another process may have taken a new one."""
    return keyfiles.read_or_create(_path(), lambda: Fernet.generate_key().decode()).split()


def _write(keys: list[str]) -> None:
    keyfiles.replace(_path(), "\n".join(keys))


def _cipher(keys: list[str]) -> MultiFernet:
    """Raises BadToken."""
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:
        raise BadToken(
            "The key file of the vault (vault.key) is damaged.",
            solution="Put it back from a backup; or remove it, and enter the Hub tokens again.",
        ) from error
