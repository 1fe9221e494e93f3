"""The job that publishes: make the SAELens forms, send them in one commit, read that back.

It may be killed at any point and called again. What is made is found on disk, what was sent in the
Hub's store, and the commit by the publication's id, which stands in its description: an answer that
was lost makes no second one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from django.utils import timezone

from saes import errors, parcels, services
from saes.drafting import Draft, Target, Wish, drafted, target_of
from saes.hub import Committed, Hub, Outgoing, Shipment
from saes.models import Job, Publication, Published, Sae
from saes.parcels import FORMAT, Piece, export_of, git_sha1
from saes.patience import TRANSIENT, attend, keep_asking, pause_after, wait
from saes.progress import NotNow, Reporter, Resource, Stage
from saes.readback import read_back
from saes.room import reserve
from saes.tending import make_export, native_size

SMALL = 20 * 2**20  # bytes; of larger files the Hub tells the sha256
A_WHILE = 30.0  # seconds that another SAE of the publication is waited for
LOOK_AGAIN = 20.0
SENDING = "Uploading"
ATTEMPTS = 4  # in a row that bring no file; in each the client asks six times, for 23 s


def publish(job: Job, progress: Reporter) -> None:
    """From SAEs of the library to a verified commit. Finishes what was begun."""
    publication = _publication(job)
    members = _members(publication)
    hub = services.hub_for(job.token)
    if not publication.commit:
        _make_forms(job, list(members.values()), progress)
        _note(publication, _Sending(job, publication, members, hub, progress).commit())
    progress.say(Stage.VERIFYING, "Reading the commit back")
    read_back(hub, publication, members, progress)
    Publication.objects.filter(id=publication.id).update(verified_at=timezone.now())


def _publication(job: Job) -> Publication:
    if job.publication is None:
        raise errors.NotFound("What was to be published is gone.")
    return job.publication


def _members(publication: Publication) -> dict[str, Sae]:
    """The SAEs by their folders. Raises NotFound where one was deleted."""
    rows = Published.objects.filter(publication=publication).select_related("sae")
    found: dict[str, Sae] = {}
    for row in rows:
        if row.sae is None:
            raise errors.NotFound(f"{row.name} was deleted, so it cannot be published.")
        parcels.refuse(row.sae)
        found[row.folder] = row.sae
    return found


def _note(publication: Publication, made: Committed) -> None:
    publication.commit, publication.commit_url = made.commit, made.url
    publication.pull_request = made.pull_request
    publication.save(update_fields=["commit", "commit_url", "pull_request"])


# --- their SAELens forms --------------------------------------------------------------------------


def _make_forms(job: Job, saes: list[Sae], progress: Reporter) -> None:
    """Those that are there are read once more: what is sent must be what was certified."""
    progress.say(Stage.CONVERTING, "Looking at what is to be published")
    missing = [sae for sae in saes if not export_of(sae)]
    reserve(job, sum(native_size(sae) for sae in missing))
    # Bytes: written, then both sides read to be compared; or read once.
    sizes = [native_size(sae) * (3 if sae in missing else 1) for sae in saes]
    part = Part(progress, sum(sizes))
    for number, sae in enumerate(saes, 1):
        progress.say(
            Stage.CONVERTING, "Converting to the SAELens form", file=sae.name, index=number,
            count=len(saes),
        )  # fmt: skip
        with _held(job, sae, progress):
            if not _is_intact(sae, part):
                make_export(sae, FORMAT, part)
        part.next(sizes[number - 1])


@contextmanager
def _held(job: Job, sae: Sae, progress: Reporter) -> Iterator[None]:
    """The job's own SAE it holds already. Two that wait for each other let go after a while."""
    with ExitStack() as stack:
        if sae.id != job.sae_id:
            try:
                stack.enter_context(
                    services.library().hold(sae.id, progress.stop_if_cancelled, A_WHILE)
                )
            except errors.Conflict as error:
                why = f"Waits for another job that is at work on {sae.name}"
                raise NotNow(why, Resource.DISK, LOOK_AGAIN) from error
        yield


def _is_intact(sae: Sae, part: "Part") -> bool:
    rows, before = export_of(sae), 0
    for row in rows.values():
        if not services.is_as_recorded(row, partial(_tick, part, before)):
            return False
        before += row.size
    return bool(rows)


def _tick(part: "Part", before: int, done: int) -> None:
    part.advance(before + done, 0)


class Part:
    """The Reporter of one conversion among several: their bytes are one sum."""

    def __init__(self, progress: Reporter, total: int) -> None:
        self._progress, self._total = progress, total
        self._before = self._stage = self._length = 0

    def next(self, size: int) -> None:
        """The one at hand is done, with so many bytes."""
        self._before, self._stage, self._length = self._before + size, 0, 0
        self._progress.advance(self._before, self._total)

    def say(
        self, stage: Stage, message: str, *, file: str = "", index: int = 0, count: int = 0
    ) -> None:
        self._stage += self._length
        self._length = 0
        self._progress.say(Stage.CONVERTING, message, file=file)

    def advance(self, done: int, total: int) -> None:
        self._length = max(self._length, done)
        now = self._before + self._stage + done
        self._progress.advance(min(now, self._total), self._total)

    def stop_if_cancelled(self) -> None:
        self._progress.stop_if_cancelled()


# --- the commit -----------------------------------------------------------------------------------


@dataclass
class _Sending:
    """One publication on its way to the Hub. Also what is asked while something is waited for."""

    job: Job
    publication: Publication
    members: dict[str, Sae]
    hub: Hub
    progress: Reporter
    shipment: Shipment | None = None
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
        self.progress.say(Stage.UPLOADING, why or SENDING)

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
        target = self._target()
        draft = drafted(list(self.members.values()), self._wish(), target)
        self._note_sent(draft)
        changed = [piece for piece in draft.pieces if not _is_there(piece, target)]
        if not changed:
            return Committed(target.head, self.hub.page_of(self.publication.repo_id, target.head))
        files, as_pull = [_outgoing(it) for it in changed], self.publication.as_pull_request
        with Shipment(
            self.hub, self.publication.repo_id, files, as_pull_request=as_pull
        ) as shipment:
            self.shipment = shipment
            self._send(shipment, files)
            self._note_parent(target)
            self.progress.stop_if_cancelled()
            # From here on it is seen through: a commit that was made is noted, come what may.
            with suppress(errors.TargetMoved):
                return shipment.commit(
                    self.publication.message,
                    f"Published with miStudio ({self.publication.id})",
                    target.head,
                )
        return None

    def _send(self, shipment: Shipment, files: list[Outgoing]) -> None:
        self.before, self.total = 0, sum(file.size for file in files)
        for number, file in enumerate(files):
            self.number = number
            self.progress.say(
                Stage.UPLOADING, SENDING, file=file.name, index=number + 1, count=len(files)
            )
            attend(partial(shipment.send, number), self)
            self.before += file.size
            self.reached = max(self.reached, self.before)
            self.progress.advance(self.before, self.total)

    # --- the repository, as it was confirmed -----------------------------------------------------

    def _target(self) -> Target:
        it = self.publication
        target = keep_asking(lambda: target_of(self.hub, it.repo_id), self)
        if target.listing is None and it.creates:
            with suppress(errors.Conflict):  # the answer of an attempt before was lost
                self.hub.create(it.repo_id, private=not it.public)
            target = keep_asking(lambda: target_of(self.hub, it.repo_id), self)
        if target.listing is None:
            raise errors.RepositoryNotFound(f"Repository not found: {it.repo_id} is gone.")
        self._refuse_moved(target)
        return target

    def _refuse_moved(self, target: Target) -> None:
        """What others committed meanwhile is no matter, unless it is under our names."""
        it = self.publication
        moved = [name for name, oid in it.seen.items() if target.oid(name) != oid]
        if moved:
            raise errors.TargetMoved(
                f"`{moved[0]}` of {it.repo_id} is not as it was when this was rehearsed."
            )
        if target.is_public and not it.public:
            raise errors.WrongVisibility(
                f"{it.repo_id} is public now; it was private when this was rehearsed.",
                solution="Rehearse again, and confirm that everybody may see it.",
            )

    def _wish(self) -> Wish:
        folders = {sae.id: folder for folder, sae in self.members.items()}
        return Wish(self.publication.repo_id, folders, self.publication.license)

    def _note_sent(self, draft: Draft) -> None:
        self.publication.sent = {piece.name: _described(piece) for piece in draft.pieces}
        self.publication.save(update_fields=["sent"])

    def _note_parent(self, target: Target) -> None:
        self.publication.parent = target.head
        self.publication.save(update_fields=["parent"])


def _is_there(piece: Piece, target: Target) -> bool:
    remote = target.listing.files.get(piece.name) if target.listing else None
    return remote is not None and piece.is_at(remote)


def _outgoing(piece: Piece) -> Outgoing:
    assert piece.content is not None and piece.size is not None and piece.sha256 is not None
    return Outgoing(piece.name, piece.content, piece.size, piece.sha256)


def _described(piece: Piece) -> dict[str, object]:
    told: dict[str, object] = {"size": piece.size, "sha256": piece.sha256}
    if piece.content is not None and piece.size is not None and piece.size < SMALL:
        told["git_sha1"] = git_sha1(piece.content)
    return told
