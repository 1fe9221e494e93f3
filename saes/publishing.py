"""The job that publishes: make the SAELens forms, send them in one commit, read that back.

It may be killed at any point and called again: what is made is found on disk.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from django.utils import timezone

from saes import errors, parcels, services
from saes.committing import Committing
from saes.hub import Committed
from saes.models import Job, Publication, Published, Sae
from saes.parcels import FORMAT, export_of
from saes.progress import NotNow, Reporter, Resource, Stage
from saes.readback import read_back
from saes.room import reserve
from saes.tending import make_export, native_size

A_WHILE = 30.0  # seconds that another SAE of the publication is waited for
LOOK_AGAIN = 20.0


def publish(job: Job, progress: Reporter) -> None:
    """From SAEs of the library to a verified commit. Finishes what was begun."""
    publication = _publication(job)
    members = _members(publication)
    hub = services.hub_for(job.token)
    if not publication.commit:
        _make_forms(job, list(members.values()), progress)
        _note(publication, Committing(job, publication, members, hub, progress).commit())
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
