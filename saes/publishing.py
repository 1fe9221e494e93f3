"""The job that publishes: make the SAELens forms, send them in one commit, read that back.

It may be killed at any point and called again: what is made is found on disk.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.utils import timezone

from saes import errors, parcels, services
from saes.committing import Committing
from saes.hub import Committed, Hub
from saes.models import Job, Publication, Published, Sae
from saes.parcels import FORMAT, export_of
from saes.progress import NotNow, Reporter, Resource, Stage
from saes.readback import read_back
from saes.room import reserve
from saes.tending import make_export, native_size

A_WHILE = 30.0  # seconds that another SAE of the publication is waited for
LOOK_AGAIN = 20.0
TIMES = 3  # that a form's bytes go by: they are written, then both sides are read to be compared


def publish(job: Job, progress: Reporter) -> None:
    """From SAEs of the library to a verified commit. Finishes what was begun."""
    publication = _publication(job)
    hub = services.hub_for(job.token)
    if not publication.commit:
        _note(publication, _committed(job, publication, hub, progress))
    progress.say(Stage.VERIFYING, "Reading the commit back")
    read_back(hub, publication, progress)
    Publication.objects.filter(id=publication.id).update(verified_at=timezone.now())


def _committed(job: Job, publication: Publication, hub: Hub, progress: Reporter) -> Committed:
    members = _members(publication)
    saes = list(members.values())
    _make_forms(job, saes, progress)
    committing = Committing(job, publication, members, hub, progress)
    try:
        return committing.commit()
    except errors.DataMissing:
        if not _dropped_damaged(job, saes, progress):
            raise
    _make_forms(job, saes, progress)
    return committing.commit()


def _publication(job: Job) -> Publication:
    if job.publication is None:
        raise errors.NotFound("What was to be published is gone.")
    return job.publication


def _members(publication: Publication) -> dict[str, Sae]:
    """The SAEs by their folders. Raises NotFound, TargetMoved where one was deleted or changed."""
    rows = Published.objects.filter(publication=publication).select_related("sae")
    found: dict[str, Sae] = {}
    for row in rows:
        if row.sae is None:
            raise errors.NotFound(f"{row.name} was deleted, so it cannot be published.")
        if row.digest != parcels.digest_of(row.sae):
            raise errors.TargetMoved(f"{row.name} was changed since this was confirmed.")
        parcels.refuse(row.sae)
        found[row.folder] = row.sae
    return found


def _note(publication: Publication, made: Committed) -> None:
    publication.commit, publication.commit_url = made.commit, made.url
    publication.pull_request = made.pull_request
    publication.save(update_fields=["commit", "commit_url", "pull_request"])


# --- their SAELens forms --------------------------------------------------------------------------


def _make_forms(job: Job, saes: list[Sae], progress: Reporter) -> None:
    """Those that are missing. What is there is hashed as it is sent."""
    progress.say(Stage.CONVERTING, "Looking at what is to be published")
    missing = [sae for sae in saes if not export_of(sae)]
    sizes = [native_size(sae) for sae in missing]
    reserve(job, sum(sizes))
    part = Part(progress, sum(sizes) * TIMES)
    for number, sae in enumerate(missing, 1):
        progress.say(
            Stage.CONVERTING, "Converting to the SAELens form", file=sae.name, index=number,
            count=len(missing),
        )  # fmt: skip
        with _held(job, sae, progress):
            make_export(sae, FORMAT, part)
        part.next(sizes[number - 1] * TIMES)


def _dropped_damaged(job: Job, saes: list[Sae], progress: Reporter) -> bool:
    """Whether forms were not on the disk as they were made; those are gone now."""
    damaged = False
    for sae in saes:
        with _held(job, sae, progress):
            rows = export_of(sae).values()
            if not rows or not all(map(services.is_as_recorded, rows)):
                services.drop_exports(sae)
                damaged = True
    return damaged


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
