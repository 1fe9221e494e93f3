"""After a commit: what the repository holds now is what was sent, and loads as it does here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from saes import services
from saes.errors import NotAsSent
from saes.hub import Hub, HubSource, Listing, RemoteFile, RepoRef
from saes.models import Publication, Sae
from saes.parcels import CONFIG, WEIGHTS, export_of
from saes.patience import keep_asking
from saes.progress import Reporter, Stage

LENGTH = 8  # bytes that say how long the header of a safetensors file is


def read_back(
    hub: Hub, publication: Publication, members: Mapping[str, Sae], progress: Reporter
) -> None:
    """Hashes of all files from the commit's tree; each cfg.json and header, byte for byte.

    Then the repository is made public, if that was confirmed. Raises NotAsSent.
    """
    watch = _Reading(progress)
    pinned = RepoRef(publication.repo_id, "model", publication.commit)
    listing = keep_asking(lambda: hub.files_at(pinned), watch)
    _refuse_other_hashes(publication, listing)
    source = HubSource(hub, listing)
    for number, (folder, sae) in enumerate(members.items(), 1):
        progress.say(
            Stage.VERIFYING, "Reading the commit back", file=folder, index=number,
            count=len(members),
        )  # fmt: skip
        keep_asking(partial(_refuse_other_bytes, source, folder, sae), watch)
        progress.advance(number, len(members))
    if publication.makes_public and not publication.as_pull_request:
        keep_asking(partial(_make_public, hub, publication.repo_id), watch)


def _refuse_other_hashes(publication: Publication, listing: Listing) -> None:
    for name, told in publication.sent.items():
        there = listing.files.get(name)
        if there is None or not _is_same(there, told):
            raise NotAsSent(
                f"`{name}` in {publication.repo_id} is not what was sent "
                f"(commit {publication.commit[:12]})."
            )


def _is_same(there: RemoteFile, told: Mapping[str, object]) -> bool:
    expected = there.expected
    same = expected.sha256 == told["sha256"] if expected.sha256 else bool(
        expected.git_sha1 and expected.git_sha1 == told.get("git_sha1")
    )  # fmt: skip
    return same and there.size == told["size"]


def _refuse_other_bytes(source: HubSource, folder: str, sae: Sae) -> None:
    home, rows = services.library().home(sae.id), export_of(sae)
    config, weights = f"{folder}/{CONFIG}", f"{folder}/{WEIGHTS}"
    ours = (home / rows[CONFIG].path).read_bytes()
    if source.read(config, 0, source.size(config)) != ours:
        raise NotAsSent(f"`{config}` comes back with other bytes than were sent.")
    with (home / rows[WEIGHTS].path).open("rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        header = file.read(length)
    if source.read(weights, LENGTH, LENGTH + length) != header:
        raise NotAsSent(f"The header of `{weights}` comes back other than it was sent.")


def _make_public(hub: Hub, repo_id: str) -> None:
    _, info = hub.resolve(RepoRef(repo_id))
    if info.private:
        hub.make_public(repo_id)
        _, info = hub.resolve(RepoRef(repo_id))
        if info.private:
            raise NotAsSent(f"{repo_id} could not be made public.")


@dataclass(frozen=True)
class _Reading:
    progress: Reporter

    def check(self) -> None:
        self.progress.stop_if_cancelled()

    def say(self, why: str) -> None:
        self.progress.say(Stage.VERIFYING, why or "Reading the commit back")
