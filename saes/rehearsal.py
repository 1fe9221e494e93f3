"""What publishing would do, before anything is sent: every file, the card, who would see it.

Nothing here writes to the Hub, and no weight is read.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from saes import parcels
from saes.cautions import cautions_of
from saes.drafting import (
    LICENSE_LINK,
    LICENSE_NAME,
    OTHER,
    Draft,
    Target,
    Wish,
    drafted,
    target_of,
    weights_of,
)  # fmt: skip
from saes.errors import (
    AccessDenied,
    BadCard,
    CannotPublish,
    RepositoryNotFound,
    SaeError,
    WrongVisibility,
)  # fmt: skip
from saes.hub import Hub, Identity
from saes.models import Sae
from saes.parcels import NAMES, PASSPORT, README, SPARSITY, Piece
from saes.safe_names import why_unsafe

MOST_SAES = 1000
LONGEST_FOLDER = LONGEST_LINK = 300
TOP = {README.casefold(), ".gitattributes"}  # files beside the folders
_FOLDER = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
LICENSES = {
    "apache-2.0": "Apache 2.0", "mit": "MIT", "cc-by-4.0": "CC BY 4.0",
    "cc-by-sa-4.0": "CC BY-SA 4.0", "cc-by-nc-4.0": "CC BY-NC 4.0", "cc0-1.0": "CC0",
    "bsd-3-clause": "BSD 3-Clause", "gpl-3.0": "GPL 3", "gemma": "Gemma", "llama2": "Llama 2",
    "llama3": "Llama 3", "llama3.1": "Llama 3.1", "llama3.2": "Llama 3.2",
    OTHER: "Another one",
}  # fmt: skip


class Action(StrEnum):
    NEW = "new"
    CHANGED = "changed"
    IDENTICAL = "identical"
    COMPARED = "compared"  # there is one, and ours is made only when it is published


@dataclass(frozen=True)
class Change:
    name: str
    action: Action
    size: int | None  # bytes; None: not known before it is made
    was: int | None  # bytes of what is replaced


@dataclass(frozen=True)
class Rehearsal:
    wish: Wish
    account: str  # whose token it is, on the Hub
    token_rights: str  # what it may, in words
    target: Target
    changes: tuple[Change, ...]
    readme: str  # as it would be
    refusals: tuple[SaeError, ...] = ()
    warnings: tuple[str, ...] = ()
    unmade: int = 0  # SAEs that are converted first
    passports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by folder
    pins: Mapping[str, str] = field(default_factory=dict)  # digests of the SAEs, by id

    @property
    def creates(self) -> bool:
        return self.target.listing is None

    @property
    def public(self) -> bool:
        """Whether everybody could see it afterwards."""
        return self.target.is_public or self.wish.private is False

    @property
    def makes_public(self) -> bool:
        return not self.creates and not self.target.is_public and self.wish.private is False

    @property
    def seen(self) -> dict[str, str]:
        """Hashes of what is there now under the names that are written; the card is merged."""
        return {it.name: self.target.oid(it.name) for it in self.changes if it.name != README}

    @property
    def nothing_to_do(self) -> bool:
        return all(it.action == Action.IDENTICAL for it in self.changes) and not self.makes_public

    @property
    def digest(self) -> str:
        """Tells whether what somebody saw is what would happen now."""
        changes = [astuple(it) for it in self.changes]
        told = [self.account, self.public, self.readme, changes, sorted(self.pins.items())]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def refuse(self) -> None:
        """Raises the first of what speaks against it."""
        for error in self.refusals:
            raise error

    def to_json(self) -> dict[str, Any]:
        return {
            "repo_id": self.wish.repo_id,
            "account": self.account,
            "token_rights": self.token_rights,
            "creates_repo": self.creates,
            "parent_commit": self.target.head or None,
            "public": self.public,
            "makes_public": self.makes_public,
            "commit_message": self.wish.title,
            "create_pr": self.wish.as_pull_request,
            "license": self.wish.license or None,
            "files": [
                {"path": it.name, "action": it.action, "size": it.size, "replaces": it.was}
                for it in self.changes
            ],
            "readme": self.readme,
            "passports": self.passports,
            "nothing_to_do": self.nothing_to_do,
            "warnings": list(self.warnings),
            "problems": [error.to_json() for error in self.refusals],
        }


def changes_of(draft: Draft, target: Target) -> tuple[Change, ...]:
    return tuple(_change(piece, target) for piece in draft.pieces)


def _change(piece: Piece, target: Target) -> Change:
    there = target.listing.files.get(piece.name) if target.listing else None
    if there is None:
        return Change(piece.name, Action.NEW, piece.size, None)
    if piece.content is None:
        return Change(piece.name, Action.COMPARED, None, there.size)
    action = Action.IDENTICAL if piece.is_at(there) else Action.CHANGED
    return Change(piece.name, action, piece.size, there.size)


# --- the rehearsal --------------------------------------------------------------------------------


def rehearse(saes: Sequence[Sae], wish: Wish, hub: Hub) -> Rehearsal:
    """What would happen now. Raises what the Hub says, and BadCard; what speaks against
    publishing is in `refusals`."""
    identity = hub.whoami()
    target = target_of(hub, wish.repo_id)
    draft = drafted(saes, wish, target)
    refusals = list(_refusals(wish, target, identity))
    warnings = list(cautions_of(saes, wish, target, draft, hub, identity))
    try:
        warnings += hub.check_card(draft.readme)
    except BadCard as error:
        refusals.append(error)
    unmade = sum(weights_of(own).content is None for own in draft.by_sae.values())
    return Rehearsal(
        wish, identity.name, identity.describe(), target, changes_of(draft, target), draft.readme,
        tuple(refusals), tuple(warnings), unmade,
        {wish.folders[it.id]: _passport(it, draft.by_sae[it.id]) for it in saes},
        {it.id: parcels.digest_of(it) for it in saes},
    )  # fmt: skip


def _passport(sae: Sae, pieces: Sequence[Piece]) -> Any:
    """As it is sent; of what is made first, as far as it is known."""
    held = next(it.content for it in pieces if it.name.endswith(f"/{PASSPORT}"))
    return json.loads(held) if isinstance(held, bytes) else parcels.passport(sae, {})


def refuse_wrong(saes: Sequence[Sae], wish: Wish) -> None:
    """What can be told without the Hub. Raises CannotPublish, NotReady, CannotRepresent."""
    if not saes or len(saes) > MOST_SAES:
        raise CannotPublish(f"One to {MOST_SAES:,} SAEs can be published at once.")
    if len(wish.folders) < len(saes):
        raise CannotPublish("An SAE is named twice.")
    _refuse_terms(wish)
    for sae in saes:
        parcels.refuse(sae)
        refuse_folder(wish.folders[sae.id])
    _refuse_in_the_way([folder.casefold() for folder in wish.folders.values()])


def _refuse_terms(wish: Wish) -> None:
    """Raises CannotPublish."""
    named = re.fullmatch(LICENSE_NAME, wish.license_name) or not wish.license_name
    linked = re.fullmatch(LICENSE_LINK, wish.license_link) or not wish.license_link
    if not named or not linked or len(wish.license_link) > LONGEST_LINK:
        raise CannotPublish(
            "The license's name has plain letters, digits, `.`, `_` and `-`; its link is an "
            "address of the web, or a file of the repository."
        )


def _refuse_in_the_way(folders: Sequence[str]) -> None:
    """Raises CannotPublish where something would be both a folder and a file, or two folders."""
    if len(set(folders)) < len(folders):
        raise CannotPublish("Two SAEs would go to the same folder.")
    files = {f"{folder}/{name}" for folder in folders for name in (*NAMES, SPARSITY)} | TOP
    for folder in folders:
        above = (it.as_posix() for it in PurePosixPath(folder, "x").parents)
        if both := next((it for it in above if it in files), ""):
            raise CannotPublish(f"`{both}` would be a file and a folder.")


def refuse_folder(folder: str) -> None:
    """Raises CannotPublish."""
    if not _FOLDER.fullmatch(folder) or len(folder) > LONGEST_FOLDER or why_unsafe(folder):
        raise CannotPublish(
            f"{folder[:100]!r} cannot be a folder to publish to.",
            solution="Name a folder such as `layer_6`: plain letters, digits, `_`, `-`, `.` and "
            "`/`. SAELens loads no SAE that lies at the top of a repository.",
        )
    if any(part.casefold() == ".git" for part in folder.split("/")):
        raise CannotPublish("A folder of git itself cannot be published to.")


def _refusals(wish: Wish, target: Target, identity: Identity) -> Iterator[SaeError]:
    exists = target.listing is not None
    if not exists and not wish.create:
        yield RepositoryNotFound(
            f"Repository not found: {wish.repo_id} does not exist, or this token cannot see it.",
            solution="Correct the name, or let it be created.",
        )
    if not exists and wish.as_pull_request:
        yield CannotPublish("A repository that does not exist takes no pull request.")
    if in_the_way := target.files_among(wish.folders.values()):
        yield CannotPublish(f"`{in_the_way[0]}` is a file of {wish.repo_id}, and no folder.")
    why = identity.why_not_write(wish.repo_id, exists=exists)
    # Whoever may write anything may propose here: that is what pull requests are for.
    if why and not (exists and wish.as_pull_request and identity.role != "read"):
        yield AccessDenied(why, solution="Use another token, or another repository.")
    yield from _wrong_visibility(wish, target)


def _wrong_visibility(wish: Wish, target: Target) -> Iterator[SaeError]:
    if target.is_public and wish.private:
        yield WrongVisibility(
            f"{wish.repo_id} is public: everybody would see what you publish there.",
            solution="Choose another repository, or make this one private on the Hub first.",
        )
    hidden = target.listing is not None and target.listing.private
    if hidden and wish.private is False and wish.as_pull_request:
        yield CannotPublish("A pull request does not make a repository public.")
