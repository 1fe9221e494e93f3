"""What somebody saw at a rehearsal, sealed: it comes back with their word, and unaltered.

A seal is good for its user alone, and for as long as the vault keeps a token for one job. It holds
no secret: of a token it tells which row of the vault it is.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.contrib.auth.models import User
from django.core import signing

from saes import vault
from saes.drafting import Wish
from saes.errors import CannotPublish, TargetMoved
from saes.models import HubToken
from saes.parcels import README
from saes.rehearsal import Action, Rehearsal

SALT, TOKEN_SALT = "saes.confirming", "saes.confirming.token"
GOOD_FOR = vault.LONGEST_REQUEST
AGAIN = "Rehearse again and look at what would change now."
MOST_TOLD = 5


@dataclass(frozen=True)
class Seen:
    """What was rehearsed, as far as it is compared with what would happen now."""

    wish: Wish
    token: int  # the row of the vault
    digest: str
    account: str
    public: bool
    pins: dict[str, str]  # digests of the SAEs
    readme: str  # its hash
    files: dict[str, list[Any]]  # action, and bytes of what is replaced

    @classmethod
    def of(cls, told: Rehearsal, token: HubToken) -> "Seen":
        files = {it.name: [str(it.action), it.was] for it in told.changes}
        return cls(
            told.wish, token.pk, told.digest, told.account, told.public, dict(told.pins),
            _hash(told.readme), files,
        )  # fmt: skip


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def seal(user: User, seen: Seen) -> str:
    return signing.dumps({"user": user.pk, **asdict(seen)}, salt=SALT, compress=True)


def unseal(user: User, sealed: str) -> Seen:
    """Raises TargetMoved for one that is too old, CannotPublish for what is none of this user."""
    try:
        told = signing.loads(sealed, salt=SALT, max_age=GOOD_FOR)
    except signing.SignatureExpired as error:
        raise TargetMoved("This was rehearsed more than an hour ago.") from error
    except signing.BadSignature as error:
        raise CannotPublish("This was not rehearsed here.", solution=AGAIN) from error
    if told.pop("user") != user.pk:
        raise CannotPublish("Somebody else rehearsed this.", solution=AGAIN)
    return Seen(**{**told, "wish": Wish(**told["wish"])})


# --- a token for this one time --------------------------------------------------------------------


def hide(token: HubToken) -> str:
    """Which token of the vault goes with a form. The token itself never comes to a page."""
    return signing.dumps([token.owner_id, token.pk], salt=TOKEN_SALT)


def hidden(user: User, told: str) -> HubToken | None:
    """The token for one job that this user brought, as long as no job has it."""
    try:
        owner, row = signing.loads(told, salt=TOKEN_SALT, max_age=GOOD_FOR)
    except signing.BadSignature:
        return None
    return one_time(user, row) if owner == user.pk else None


def one_time(user: User, row: int) -> HubToken | None:
    return HubToken.objects.filter(id=row, owner=user, for_one_job=True, job=None).first()


# --- what moved -----------------------------------------------------------------------------------


def moved(seen: Seen, told: Rehearsal) -> list[str]:
    """What is another way than it was seen, in sentences: the first few."""
    found = list(_moved(seen, told))
    more = len(found) - MOST_TOLD
    return [*found[:MOST_TOLD], *([f"And {more:,} more."] if more > 0 else [])]


def _moved(seen: Seen, told: Rehearsal) -> Iterator[str]:
    repo = told.wish.repo_id
    if seen.account != told.account:
        yield f"The token is of {told.account} now; it was of {seen.account}."
    if seen.public != told.public:
        yield f"{repo} is {'public' if told.public else 'private'} now."
    for it in told.changes:
        action, was = seen.files.get(it.name, ("", None))
        if it.name != README and (str(it.action), it.was) != (action, was):
            yield f"`{it.name}` {_SAYS[it.action]}."
    if seen.pins != told.pins:
        yield "What is published was edited or converted again."
    if seen.readme != _hash(told.readme):
        yield "The card would be another one."


_SAYS = {
    Action.NEW: "is not in the repository any more",
    Action.CHANGED: "is another one in the repository now, and would be replaced",
    Action.IDENTICAL: "is in the repository already",
    Action.COMPARED: "is another one in the repository now, and would be compared",
}
