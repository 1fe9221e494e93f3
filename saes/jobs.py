"""Jobs: starting them, running them in a worker, and what becomes of them."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import django_rq
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F
from django.utils import timezone
from redis.exceptions import RedisError

from saes import pipeline, services, vault
from saes.errors import (
    AlreadyHere,
    Cancelled,
    Conflict,
    Crashed,
    NeedsFacts,
    NotFound,
    NotReady,
    SaeError,
)
from saes.models import HubToken, Job, JobQuerySet, Sae
from saes.processes import this_process
from saes.progress import Stopped
from saes.recorder import JobReporter, carry_over

log = logging.getLogger(__name__)
QUEUE = "sae"


# --- starting ------------------------------------------------------------------------------------


def start_download(
    user: User | None, wanted: services.DownloadRequest, token: HubToken | None
) -> Job:
    """A new SAE, and the queued job that brings it in. Raises AlreadyHere."""
    with transaction.atomic():
        if there := services.already_here(wanted):
            raise AlreadyHere("This SAE is in the library already.", there.id)
        sae = services.create(user, wanted)
        return _queue(Job(kind=Job.Kind.DOWNLOAD, sae=sae, created_by=user, token=token))


def start_conversion(user: User | None, sae: Sae) -> Job:
    """Convert again from the source files on disk. Raises Conflict during another job."""
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


def start(job: Job) -> Job:
    """Raises Conflict where another job is at work on the SAE."""
    try:
        with transaction.atomic():
            return _queue(job)
    except IntegrityError as error:
        services.sae_of(job.sae_id)  # it may have been deleted meanwhile
        raise Conflict("Another job is at work on this SAE already.") from error


def _queue(job: Job) -> Job:
    job.save(force_insert=True)
    if job.brings_in:
        Sae.objects.filter(id=job.sae_id).update(
            error_code="", error_message="", error_solution="", missing_facts=[]
        )
    carry_over(job)
    transaction.on_commit(lambda: enqueue(job))
    return job


def enqueue(job: Job) -> None:
    """Hand the id to the queue. If Redis is away the row waits: recovery enqueues it later."""
    try:
        django_rq.get_queue(QUEUE).enqueue(
            "saes.jobs.run",
            job.id,
            job_id=f"{job.id}-{job.attempt}",
            result_ttl=600,
            failure_ttl=3600,
        )
    except RedisError:
        log.warning("the queue cannot be reached; %s waits", job.id)


# --- running -------------------------------------------------------------------------------------


def run(job_id: str) -> None:
    """The only function that the queue knows. Leaves quietly if another worker has the job."""
    job = Job.objects.claim(job_id, this_process())
    if job is None:
        return
    hold = services.library().hold
    with recording(job) as progress, hold(job.sae_id, progress.stop_if_cancelled):
        try:
            pipeline.WORK[Job.Kind(job.kind)](job, progress)
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
    except SaeError as error:
        fail(job, error)
    except OperationalError:
        log.warning("the database was busy for too long; %s starts again", job.id)
        requeue(job)
    except Exception:  # the one broad except: a bug ends the job, with a reference for its user
        log.exception("job %s crashed", job.id)
        crash = Crashed(
            f"Something unexpected went wrong. The reference for an administrator is {job.id}."
        )
        fields = {**said(crash), "traceback": traceback.format_exc()}
        _end(job, Job.State.CRASHED, **fields)


@transaction.atomic
def fail(job: Job, error: SaeError) -> None:
    ended = _end(job, Job.State.FAILED, **said(error))
    if ended and isinstance(error, NeedsFacts):
        facts = [fact.to_json() for fact in error.missing]
        Sae.objects.filter(id=job.sae_id).update(missing_facts=facts)


def said(error: SaeError) -> dict[str, str]:
    """An error as the columns of a row."""
    return {
        "error_code": error.code,
        "error_message": str(error),
        "error_solution": error.next_step,
    }


def _end(job: Job, state: Job.State, **fields: object) -> bool:
    """Give a job that is still ours its last state. False if it was taken from us before."""
    with transaction.atomic():
        ended = Job.objects.held(job).update(
            state=state, ended_at=timezone.now(), lease="", bytes_reserved=0, bytes_per_second=0,
            version=F("version") + 1, **fields,
        )  # fmt: skip
        if ended:
            settle(job.id)
    return bool(ended)


def settle(job_id: str) -> None:
    """A job has ended: its SAE takes over the outcome, and a token that was for it alone goes."""
    job = Job.objects.get(id=job_id)
    if job.brings_in:
        Sae.objects.filter(id=job.sae_id).update(
            error_code=job.error_code,
            error_message=job.error_message,
            error_solution=job.error_solution,
        )
    vault.wipe(job.token_id)
    carry_over(job)


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


# --- stopping and going on -----------------------------------------------------------------------


def cancel(job: Job) -> bool:
    """Stop a job that has not ended, in one write: a worker at it notices within a second."""
    with transaction.atomic():
        won = Job.objects.filter(id=job.id, state__in=Job.ACTIVE).update(
            state=Job.State.CANCELLED, ended_at=timezone.now(), bytes_reserved=0,
            bytes_per_second=0, version=F("version") + 1, **said(Cancelled("Cancelled.")),
        )  # fmt: skip
        if won:
            settle(job.id)
    if won:
        _drop_parts_of_nobody(job.sae_id)
    return bool(won)


def _drop_parts_of_nobody(sae_id: str) -> None:
    """Remove part files, unless a worker is still at the SAE: it tidies up before it lets go."""
    shelf = services.library()
    with suppress(Conflict), shelf.hold(sae_id, lambda: None, seconds=0):
        shelf.drop_parts(sae_id)


def pause(job: Job) -> bool:
    """Stop a job for now: part files stay. False where it has ended or is paused already."""
    rows = Job.objects.filter(id=job.id, state__in=(Job.State.QUEUED, Job.State.RUNNING))
    return _move(job, rows, state=Job.State.PAUSED, bytes_reserved=0)


def resume(job: Job) -> bool:
    """A paused job goes on from its part files. False where it is not paused."""
    rows = Job.objects.filter(id=job.id, state=Job.State.PAUSED)
    return _move(job, rows, state=Job.State.QUEUED)


def requeue(job: Job) -> bool:
    """A job whose worker is gone, or could not go on, waits for another one."""
    return _move(job, Job.objects.held(job), state=Job.State.QUEUED)


def _move(job: Job, rows: JobQuerySet, **fields: object) -> bool:
    """Take a job from whoever works at it, in one conditional write; hand it on if it waits."""
    with transaction.atomic():
        won = rows.update(
            lease="", worker="", bytes_per_second=0, version=F("version") + 1,
            updated_at=timezone.now(), **fields,
        )  # fmt: skip
        if not won:
            return False
        moved = Job.objects.get(id=job.id)
        carry_over(moved)
        if moved.state == Job.State.QUEUED:
            transaction.on_commit(lambda: enqueue(moved))
    return True
