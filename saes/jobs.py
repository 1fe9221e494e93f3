"""Jobs: starting them, running them in a worker, and what becomes of them."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F
from django.utils import timezone

from saes import arrivals, conversion, downloading, importing, moves, publishing, services, tending
from saes.errors import (
    Conflict,
    Crashed,
    DataAway,
    NeedsFacts,
    NotFound,
    NotReady,
    SaeError,
)
from saes.models import HubToken, Job, Publication, Sae
from saes.moves import said
from saes.processes import this_process
from saes.progress import NotNow, Resource, Stopped
from saes.recorder import JobReporter
from saes.room import LOOK_AGAIN

log = logging.getLogger(__name__)
WORK = {
    Job.Kind.DOWNLOAD: downloading.download,
    Job.Kind.IMPORT: importing.bring_in,
    Job.Kind.CONVERT: conversion.convert_again,
    Job.Kind.EXPORT: tending.export,
    Job.Kind.VERIFY: tending.verify,
    Job.Kind.PUBLISH: publishing.publish,
}
# On the page Activity a new job takes the place of what failed before at the same work.
_FAILED = Job.objects.filter(
    listed=True, state__in=(Job.State.FAILED, Job.State.CRASHED, Job.State.CANCELLED)
)


# --- starting ------------------------------------------------------------------------------------


def start_arrival(user: User | None, wanted: arrivals.Wanted, token: HubToken | None = None) -> Job:
    """A new SAE, and the queued job that brings it in. Raises AlreadyHere."""
    with arrivals.one_of_each(wanted), transaction.atomic():
        sae = arrivals.create(user, wanted)
        return _queue([Job(kind=arrival_of(sae), sae=sae, created_by=user, token=token)])[0]


def arrival_of(sae: Sae) -> Job.Kind:
    """What brings its files in, for the first time or again."""
    from_hub = sae.source == Sae.Source.HUGGINGFACE
    return Job.Kind.DOWNLOAD if from_hub else Job.Kind.IMPORT


def start_many(jobs: list[Job]) -> list[Job]:
    """Raises Conflict, and starts none, where another job is at work on one of their SAEs."""
    try:
        with transaction.atomic():
            return _queue(jobs)
    except IntegrityError as error:
        raise Conflict("Another job has begun with one of these SAEs.") from error


def start_conversion(user: User | None, sae: Sae) -> Job:
    """Convert again from the source files on disk. Raises Conflict during another job."""
    if sae.active_job:  # also one that publishes it with others
        raise Conflict("Another job is at work on this SAE already.")
    return start(Job(kind=Job.Kind.CONVERT, sae=sae, created_by=user))


def start_export(user: User | None, sae: Sae, format: str) -> Job:
    """Convert a ready SAE to another format, beside it. Raises CannotRepresent, NotReady."""
    services.refuse_export(sae, format)
    return start(Job(kind=Job.Kind.EXPORT, sae=sae, created_by=user, target=format))


def start_verifying(user: User | None, sae: Sae) -> Job:
    """Hash the files of a ready SAE again. Raises NotReady, Conflict."""
    if sae.status != Sae.Status.READY:
        raise NotReady(f"{sae.name} is not ready.")
    return start(Job(kind=Job.Kind.VERIFY, sae=sae, created_by=user))


def start_publication(
    user: User | None, publication: Publication, sae: Sae, token: HubToken | None
) -> Job:
    """`sae`: the first of them. Raises Conflict where another job is at work on it."""
    return start(
        Job(
            kind=Job.Kind.PUBLISH, sae=sae, publication=publication, created_by=user, token=token
        )
    )  # fmt: skip


def start(job: Job) -> Job:
    """Raises Conflict where another job is at work on the SAE."""
    try:
        with transaction.atomic():
            return _queue([job])[0]
    except IntegrityError as error:
        services.sae_of(job.sae_id)  # it may have been deleted meanwhile
        raise Conflict("Another job is at work on this SAE already.") from error


def _queue(jobs: list[Job]) -> list[Job]:
    services.library().require_there()
    Job.objects.bulk_create(jobs)
    begun = [job.sae_id for job in jobs if job.brings_in]
    for part in services.in_parts(begun):
        Sae.objects.filter(id__in=part).update(
            error_code="", error_message="", error_solution="", missing_facts=[]
        )
        _FAILED.filter(sae__in=part, kind__in=Job.BRINGS_IN).update(listed=False)
    for job in jobs:
        if not job.brings_in:
            same = {"sae": job.sae_id, "kind": job.kind, "target": job.target}
            _FAILED.filter(**same, publication=job.publication_id).update(listed=False)
    moves.hand_on(jobs)
    return jobs


# --- running -------------------------------------------------------------------------------------


def take_turn() -> None:
    """The only function that the queue knows. Leaves quietly if there is nothing to do."""
    job = Job.objects.claim_next(this_process())
    if job is not None:
        _work_at(job)


def run(job_id: str) -> None:
    """This very job, here and now. Leaves quietly if another worker has it."""
    job = Job.objects.claim(job_id, this_process())
    if job is not None:
        _work_at(job)


def _work_at(job: Job) -> None:
    hold = services.library().hold
    with recording(job) as progress, hold(job.sae_id, progress.stop_if_cancelled):
        try:
            services.library().require_there()
            WORK[Job.Kind(job.kind)](job, progress)
        finally:
            _tidy_up(job)


@contextmanager
def recording(job: Job) -> Iterator[JobReporter]:
    """Whatever becomes of the work inside, the row says it."""
    reporter = JobReporter(job)
    try:
        with reporter:
            yield reporter
        _end(job, Job.State.DONE, progress=100.0, message="")
    except Stopped:
        return  # whoever took the job has said what became of it
    except NotNow as why:
        moves.postpone(job, why)
    except SaeError as error:
        if not _waits_for_disk(job):
            fail(job, error)
    except OperationalError:
        log.warning("the database was busy for too long; %s starts again", job.id)
        moves.requeue(job)
    except Exception:  # the one broad except: a bug ends the job, with a reference for its user
        log.exception("job %s crashed", job.id)
        crash = Crashed(
            f"Something unexpected went wrong. The reference for an administrator is {job.id}."
        )
        fields = {**said(crash), "traceback": traceback.format_exc()}
        _end(job, Job.State.CRASHED, **fields)


def _waits_for_disk(job: Job) -> bool:
    """An SAE is no error because its disk is not mounted: the job that brings it in waits."""
    if not job.brings_in:
        return False
    try:
        services.library().require_there()
    except DataAway as away:
        why = f"Waits for the data directory. {away}"
        moves.postpone(job, NotNow(why, Resource.DISK, LOOK_AGAIN))
        return True
    return False


@transaction.atomic
def fail(job: Job, error: SaeError) -> None:
    ended = _end(job, Job.State.FAILED, **said(error))
    if ended and isinstance(error, NeedsFacts):
        facts = [fact.to_json() for fact in error.missing]
        Sae.objects.filter(id=job.sae_id).update(missing_facts=facts)


def _end(job: Job, state: Job.State, **fields: object) -> bool:
    """Give a job that is still ours its last state. False if it was taken from us before."""
    with transaction.atomic():
        ended = Job.objects.held(job).update(
            state=state, ended_at=timezone.now(), lease="", bytes_reserved=0, bytes_per_second=0,
            version=F("version") + 1, **fields,
        )  # fmt: skip
        if ended:
            moves.settle([Job.objects.get(id=job.id)])
    return bool(ended)


def _tidy_up(job: Job) -> None:
    """Files of a job that was cancelled or deleted are removed by its worker, before it lets go."""
    row = Job.objects.filter(id=job.id).first()
    if row is None:
        services.library().remove(job.sae_id)
    elif row.state == Job.State.CANCELLED:
        services.library().drop_parts(job.sae_id)


def job_of(job_id: str) -> Job:
    """Raises NotFound: its SAE was deleted."""
    job = Job.objects.filter(id=job_id).first()
    if job is None:
        raise NotFound("This job is gone, and its SAE with it.")
    return job
