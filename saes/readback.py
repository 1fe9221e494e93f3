"""After a commit: what the repository holds now is what was sent, and loads as it does here."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from saes.errors import NotAsSent
from saes.hub import Hub, HubSource, Listing, RemoteFile, RepoRef
from saes.models import Publication
from saes.parcels import CONFIG, LENGTH, WEIGHTS
from saes.patience import keep_asking
from saes.progress import Reporter, Stage


def read_back(hub: Hub, publication: Publication, progress: Reporter) -> None:
    """Hashes of all files from the commit's tree; each cfg.json and header as it was sent.

    What was sent stands in the publication: the files here may have been removed since.
    Then the repository is made public, if that was confirmed. Raises NotAsSent.
    """
    watch = _Reading(progress)
    pinned = RepoRef(publication.repo_id, "model", publication.commit)
    listing = keep_asking(lambda: hub.files_at(pinned), watch)
    _refuse_other_hashes(publication, listing)
    source = HubSource(hub, listing)
    checked = [name for name in publication.sent if name.endswith((f"/{CONFIG}", f"/{WEIGHTS}"))]
    for number, name in enumerate(checked, 1):
        progress.say(
            Stage.VERIFYING, "Reading the commit back", file=name, index=number, count=len(checked)
        )
        keep_asking(partial(_refuse_other_bytes, source, name, publication.sent[name]), watch)
        progress.advance(number, len(checked))
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


def _refuse_other_bytes(source: HubSource, name: str, told: Mapping[str, Any]) -> None:
    """Of weights their header, which says where each tensor lies; of a cfg.json all."""
    first, part = (LENGTH, told["header"]) if name.endswith(WEIGHTS) else (0, told)
    came = source.read(name, first, first + part["size"])
    if hashlib.sha256(came).hexdigest() != part["sha256"]:
        what = f"The header of `{name}`" if first else f"`{name}`"
        raise NotAsSent(f"{what} comes back with other bytes than were sent.")


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
