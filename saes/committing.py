"""The one commit of a publication: its files are sent to the Hub's store, then it names them.

It may be killed at any point and called again. What was sent is found in the store, and the commit
by the publication's id, which stands in its description: an answer that was lost makes no second
one.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from saes import errors
from saes.drafting import Draft, Target, Wish, drafted, target_of
from saes.hub import Committed, Hub, Outgoing, Shipment
from saes.models import Job, Publication, Sae
from saes.parcels import WEIGHTS, Piece, git_sha1, header_of
from saes.patience import TRANSIENT, attend, keep_asking, pause_after, wait
from saes.progress import Reporter, Stage

SMALL = 20 * 2**20  # bytes; of larger files the Hub tells the sha256
SENDING = "Uploading"
ATTEMPTS = 4  # in a row that bring no file; in each the client asks six times, for 23 s
# Seconds until each look for a pull request of ours: nothing keeps a second one from being opened.
LOOKS = (0.0, 5.0, 10.0)
OF_THE_HUB = {".gitattributes"}  # what a new repository holds


@dataclass
class Committing:
    """One publication on its way to the Hub. Also what is asked while something is waited for."""

    job: Job
    publication: Publication
    members: dict[str, Sae]
    hub: Hub
    progress: Reporter
    shipment: Shipment | None = None
    files: Sequence[Outgoing] = ()
    number: int = 0  # of the file that is sent
    before: int = 0  # bytes of those that were
    total: int = 0
    reached: int = 0  # bytes of whole files that came through, in any attempt

    def check(self) -> None:
        if self.shipment:
            done = self.before + self.shipment.done(self.number)
            self.progress.advance(min(done, self.total), self.total)
        self.progress.stop_if_cancelled()

    def say(self, why: str) -> None:
        at_hand = self.files[self.number : self.number + 1]
        self.progress.say(
            Stage.UPLOADING, why or SENDING, file=at_hand[0].name if at_hand else "",
            index=self.number + 1 if at_hand else 0, count=len(self.files),
        )  # fmt: skip

    def commit(self) -> Committed:
        """Our commit, made now or found. Raises TargetMoved, and what the Hub says for long."""
        self.progress.say(Stage.UPLOADING, "Looking at the repository")
        self._refuse_other_account()
        fruitless = 0
        while True:
            reached = self.reached
            try:
                if made := self._found() or self._made():
                    return made
                fruitless += 1  # somebody was faster: what was confirmed may still hold
            except TRANSIENT as error:
                fruitless = 1 if self.reached > reached else fruitless + 1
                if fruitless >= ATTEMPTS:
                    raise
                wait(*pause_after(error, fruitless), self)
            if fruitless >= ATTEMPTS:
                raise errors.TargetMoved(f"{self.publication.repo_id} changes all the time.")

    def _refuse_other_account(self) -> None:
        account = keep_asking(self.hub.whoami, self).name
        if account != self.publication.account:
            raise errors.CannotPublish(
                f"The token is of {account}; it was rehearsed as {self.publication.account}.",
                solution="Rehearse again with the token that is to publish.",
            )

    def _found(self) -> Committed | None:
        """Our commit, if it was made and its answer lost."""
        it = self.publication
        if not it.parent:
            return None
        if not it.as_pull_request:
            return self._among("main", "")
        return next(filter(None, map(self._among_requests, LOOKS)), None)

    def _among_requests(self, pause: float) -> Committed | None:
        it = self.publication
        wait(pause, "looks for its pull request", self)
        requests = keep_asking(lambda: self.hub.open_pull_requests(it.repo_id, it.account), self)
        return next(filter(None, (self._among(*request) for request in requests)), None)

    def _among(self, revision: str, pull_request: str) -> Committed | None:
        it = self.publication
        after = keep_asking(lambda: self.hub.commits_after(it.repo_id, it.parent, revision), self)
        for commit, told in after.items():
            if it.id in told:
                return Committed(commit, self.hub.page_of(it.repo_id, commit), pull_request)
        return None

    def _made(self) -> Committed | None:
        """None where somebody else made a commit at this very moment."""
        self.shipment, self.files, self.number = None, (), 0
        target = self._target()
        draft = drafted(list(self.members.values()), self._wish(), target)
        files = [_outgoing(it) for it in draft.pieces if not _is_there(it, target)]
        self._note_sent(draft)
        if not files:
            return Committed(target.head, self.hub.page_of(self.publication.repo_id, target.head))
        as_pull = self.publication.as_pull_request
        with Shipment(
            self.hub, self.publication.repo_id, files, as_pull_request=as_pull
        ) as shipment:
            keep_asking(shipment.prepare, self)
            self.shipment, self.files = shipment, files
            self._send(shipment)
            self._note_parent(target)
            self.progress.say(Stage.UPLOADING, "Making the commit")
            # From here on it is seen through: a commit that was made is noted, come what may.
            with suppress(errors.TargetMoved):
                return shipment.commit(
                    self.publication.message,
                    f"Published with miStudio ({self.publication.id})",
                    target.head,
                )
        return None

    def _send(self, shipment: Shipment) -> None:
        self.before, self.total = 0, sum(file.size for file in self.files)
        for number, file in enumerate(self.files):
            self.number = number
            self.say("")
            attend(partial(shipment.send, number), self, partial(shipment.done, number))
            self.before += file.size
            self.reached = max(self.reached, self.before)
            self.progress.advance(self.before, self.total)

    # --- the repository, as it was confirmed -----------------------------------------------------

    def _target(self) -> Target:
        it = self.publication
        target = keep_asking(lambda: target_of(self.hub, it.repo_id), self)
        if target.listing is None and it.creates:
            keep_asking(self._create, self)
            target = keep_asking(lambda: target_of(self.hub, it.repo_id), self)
        if target.listing is None:
            raise errors.RepositoryNotFound(f"Repository not found: {it.repo_id} is gone.")
        self._refuse_moved(target)
        return target

    def _create(self) -> None:
        """Private, also what becomes public: nobody sees what was not verified."""
        with suppress(errors.Conflict):  # the answer of an attempt before was lost
            self.hub.create(self.publication.repo_id, private=True)
        self.publication.created = True
        self.publication.save(update_fields=["created"])

    def _refuse_moved(self, target: Target) -> None:
        """What others committed meanwhile is no matter, unless it is under our names."""
        it = self.publication
        if it.creates and not it.parent and not _is_empty(target):
            raise errors.TargetMoved(f"{it.repo_id} has been created by somebody else meanwhile.")
        moved = [name for name, oid in it.seen.items() if target.oid(name) != oid]
        if moved:
            raise errors.TargetMoved(
                f"`{moved[0]}` of {it.repo_id} is not as it was when this was rehearsed."
            )
        self._refuse_other_eyes(target)

    def _refuse_other_eyes(self, target: Target) -> None:
        """Others than was confirmed may see it now. That fewer may is noted, and no matter."""
        it = self.publication
        if target.is_public and not it.public:
            raise errors.WrongVisibility(
                f"{it.repo_id} is public now; it was private when this was rehearsed.",
                solution="Rehearse again, and confirm that everybody may see it.",
            )
        if it.public and not it.makes_public and not target.is_public:
            it.public = False
            it.save(update_fields=["public"])

    def _wish(self) -> Wish:
        folders = {sae.id: folder for folder, sae in self.members.items()}
        it = self.publication
        return Wish(it.repo_id, folders, it.license, it.license_name, it.license_link)

    def _note_sent(self, draft: Draft) -> None:
        self.publication.sent = {piece.name: _described(piece) for piece in draft.pieces}
        self.publication.save(update_fields=["sent"])

    def _note_parent(self, target: Target) -> None:
        self.publication.parent = target.head
        self.publication.save(update_fields=["parent"])


def _is_there(piece: Piece, target: Target) -> bool:
    remote = target.listing.files.get(piece.name) if target.listing else None
    return remote is not None and piece.is_at(remote)


def _is_empty(target: Target) -> bool:
    return target.listing is not None and target.listing.files.keys() <= OF_THE_HUB


def _outgoing(piece: Piece) -> Outgoing:
    """Raises TargetMoved for a form that was dropped since it was made: somebody edited the SAE."""
    if piece.content is None or piece.size is None or piece.sha256 is None:
        raise errors.TargetMoved(f"`{piece.name}` has changed since this was rehearsed.")
    return Outgoing(piece.name, piece.content, piece.size, piece.sha256)


def _described(piece: Piece) -> dict[str, object]:
    """What is compared when the commit is read back, whatever becomes of the file here."""
    told: dict[str, object] = {"size": piece.size, "sha256": piece.sha256}
    if piece.content is not None and piece.size is not None and piece.size < SMALL:
        told["git_sha1"] = git_sha1(piece.content)
    if isinstance(piece.content, Path) and piece.name.endswith(f"/{WEIGHTS}"):
        told["header"] = header_of(piece.content)
    return told
