"""What somebody wishes to publish, the repository it goes to, and the files that would be sent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from saes import cards
from saes.errors import BadCard, CannotPublish, RepositoryNotFound, TooLarge
from saes.hub import Hub, HubSource, Listing, RepoRef, front_matter
from saes.models import Sae
from saes.parcels import README, WEIGHTS, Piece, entry_of, pieces_of

LICENSE_NAME = r"[A-Za-z0-9._-]{1,100}"
LICENSE_LINK = r"https?://[!-~]+|[A-Za-z0-9_-][A-Za-z0-9._/-]*"
OTHER = "other"  # the Hub's word for a license that it has no name of its own for


@dataclass(frozen=True)
class Wish:
    """What is to be published where. `private` None: as the repository is; private if it is new."""

    repo_id: str
    folders: Mapping[str, str]  # by id of the SAE
    license: str = ""
    license_name: str = ""  # of one that is "other": what it is called, and where it stands
    license_link: str = ""
    private: bool | None = None
    create: bool = True
    message: str = ""
    as_pull_request: bool = False

    @property
    def title(self) -> str:
        """The commit's message."""
        folders = list(self.folders.values())
        what = folders[0] if len(folders) == 1 else f"{len(folders)} SAEs"
        return (self.message.strip() or f"Publish {what}")[:200]

    @property
    def terms(self) -> dict[str, str]:
        """As the front matter says them; nothing where the repository's own stay."""
        named = {"license_name": self.license_name, "license_link": self.license_link}
        told = {"license": self.license, **(named if self.license == OTHER else {})}
        return {name: it for name, it in told.items() if it}


@dataclass(frozen=True)
class Target:
    """The repository as it is now. Without a listing there is none yet."""

    listing: Listing | None = None
    readme: str = ""

    @property
    def head(self) -> str:
        return self.listing.commit if self.listing else ""

    @property
    def is_public(self) -> bool:
        return self.listing is not None and not self.listing.private

    def folders(self) -> set[str]:
        """Those that hold weights of an SAE."""
        names = self.listing.files if self.listing else ()
        return {name.rpartition("/")[0] for name in names if name.endswith(f"/{WEIGHTS}")}

    def files_among(self, folders: Iterable[str]) -> list[str]:
        """Files that stand where these folders, or one that they lie in, would be."""
        names = self.listing.files if self.listing else {}
        above = (parent.as_posix() for it in folders for parent in PurePosixPath(it, "x").parents)
        return sorted({name for name in above if name in names})

    def oid(self, name: str) -> str:
        file = self.listing.files.get(name) if self.listing else None
        return file.expected.oid if file else ""


# --- looking at the target ------------------------------------------------------------------------


def target_of(hub: Hub, repo_id: str) -> Target:
    """The repository as it is. Raises CannotPublish for one that is no model, BadCard, and what
    the Hub says."""
    try:
        pinned, info = hub.resolve(RepoRef(repo_id))
    except RepositoryNotFound:
        return Target()
    if pinned.type != "model":  # a model of the same name may still be made
        return Target()
    if info.id != repo_id:  # renamed, or with other capitals: code that loads it would not work
        raise CannotPublish(
            f"{repo_id} is called {info.id} on the Hub.", solution=f"Publish to {info.id}."
        )
    listing = hub.listing(pinned, info)
    if README not in listing.files:
        return Target(listing)
    try:
        return Target(listing, HubSource(hub, listing).text(README))
    except TooLarge as error:
        raise BadCard("README.md in the repository is too large to be merged.") from error


# --- what would be sent ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """Everything that is sent, the card last."""

    pieces: tuple[Piece, ...]
    readme: str
    by_sae: Mapping[str, tuple[Piece, ...]] = field(default_factory=dict)


def drafted(saes: Sequence[Sae], wish: Wish, target: Target) -> Draft:
    """Raises BadCard."""
    by_sae = {sae.id: tuple(pieces_of(sae, wish.folders[sae.id])) for sae in saes}
    entries = [
        entry_of(sae, wish.folders[sae.id], weights_of(by_sae[sae.id])) for sae in saes
    ]  # fmt: skip
    datasets = [name for it in entries for name in it.datasets]
    front, body = front_matter.split(target.readme)
    text = cards.written(body, wish.repo_id, entries, target.folders(), front)
    data = cards.merged(front_matter.read(text), entries, wish.terms, datasets)
    readme = front_matter.with_data(text, data)
    pieces = [piece for own in by_sae.values() for piece in own]
    return Draft((*pieces, Piece.of_text(README, readme)), readme, by_sae)


def weights_of(pieces: Sequence[Piece]) -> Piece:
    return next(it for it in pieces if it.name.endswith(WEIGHTS))
