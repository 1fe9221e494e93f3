"""Jobs: starting them, running them in a worker, stopping them, and finding them again."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import django_rq
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F
from django.utils import timezone
from redis.exceptions import RedisError

from saes import pipeline, services, vault
from saes.errors import AlreadyHere, Conflict, NeedsFacts, SaeError, WorkerKilled
from saes.models import HubToken, Job, Sae
from saes.processes import is_alive, is_of, this_process
from saes.progress import Stopped
from saes.recorder import JobReporter, carry_over, nudge

log = logging.getLogger(__name__)
QUEUE = "sae"
LET_GO_SECONDS = 5.0  # a worker notices within one second, unless the Hub is stalling
MOST_DEATHS = 3  # workers killed at the same point: more of the same would not help


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
    return _start(Job(kind=Job.Kind.CONVERT, sae=sae, created_by=user))


def retry(user: User | None, sae: Sae) -> Job:
    """Go on where the last job failed. Raises Conflict during another job."""
    kind = Job.Kind.CONVERT if sae.downloaded_at else Job.Kind.DOWNLOAD
    token = vault.of(user) if user else None
    return _start(Job(kind=kind, sae=sae, created_by=user, token=token))


def _start(job: Job) -> Job:
    try:
        with transaction.atomic():
            return _queue(job)
    except IntegrityError as error:
        raise Conflict("Another job is at work on this SAE already.") from error


def _queue(job: Job) -> Job:
    job.save(force_insert=True)
    Sae.objects.filter(id=job.sae_id).update(
        error_code="", error_message="", error_solution="", missing_facts=[]
    )
    carry_over(job)
    transaction.on_commit(lambda: _enqueue(job))
    return job


def _enqueue(job: Job) -> None:
    """Hand the id to the queue. If Redis is away the row waits: recover() enqueues it later."""
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
        _fail(job, error)
    except OperationalError:
        log.warning("the database was busy for too long; %s starts again", job.id)
        _requeue(job)
    except Exception:  # the one broad except: a bug ends the job, with a reference for its user
        log.exception("job %s crashed", job.id)
        message = (
            f"Something unexpected went wrong. The reference for an administrator is {job.id}."
        )
        _end(
            job, Job.State.CRASHED, error_code="crashed", error_message=message,
            error_solution="Retry; if it happens again, report the reference.",
            traceback=traceback.format_exc(),
        )  # fmt: skip


def _fail(job: Job, error: SaeError) -> None:
    if isinstance(error, NeedsFacts):
        facts = [fact.to_json() for fact in error.missing]
        Sae.objects.filter(id=job.sae_id).update(missing_facts=facts)
    said = {"error_message": str(error), "error_solution": error.next_step}
    _end(job, Job.State.FAILED, error_code=error.code, **said)


def _end(job: Job, state: Job.State, **fields: object) -> bool:
    """Give a job that is still ours its last state. False if it was taken from us before."""
    with transaction.atomic():
        ended = Job.objects.held(job).update(
            state=state, ended_at=timezone.now(), lease="", bytes_reserved=0, bytes_per_second=0,
            version=F("version") + 1, **fields,
        )  # fmt: skip
        if ended:
            _after_end(job.id)
    return bool(ended)


def _after_end(job_id: str) -> None:
    """The SAE takes over the outcome."""
    job = Job.objects.get(id=job_id)
    Sae.objects.filter(id=job.sae_id).update(
        error_code=job.error_code,
        error_message=job.error_message,
        error_solution=job.error_solution,
    )
    carry_over(job)


def _tidy_up(job: Job) -> None:
    """Files of a job that was cancelled or deleted are removed by its worker, before it lets go."""
    row = Job.objects.filter(id=job.id).first()
    if row is None:
        services.library().remove(job.sae_id)
    elif row.state == Job.State.CANCELLED:
        services.library().drop_parts(job.sae_id)


# --- stopping ------------------------------------------------------------------------------------


def cancel(job: Job) -> bool:
    """Stop a job that has not ended, in one write: a worker at it notices within a second."""
    with transaction.atomic():
        won = Job.objects.filter(id=job.id, state__in=Job.ACTIVE).update(
            state=Job.State.CANCELLED, ended_at=timezone.now(), bytes_reserved=0,
            bytes_per_second=0, version=F("version") + 1, error_code="cancelled",
            error_message="Cancelled.", error_solution="Retry to start it again.",
        )  # fmt: skip
        if won:
            _after_end(job.id)
    if won and not job.lease:  # no worker is at it that would tidy up
        services.library().drop_parts(job.sae_id)
    return bool(won)


def delete_sae(sae: Sae, *, keep_files: bool) -> str:
    """Stop the SAE's job, then remove it. Returns where its files are kept, or nothing.

    Raises Conflict where the files are to be kept and a worker does not let go of them in time.
    """
    if job := sae.active_job:
        cancel(job)
    shelf, sae_id = services.library(), sae.id
    shelf.refuse_link(sae_id)
    if keep_files:
        with shelf.hold(sae_id, _no_check, LET_GO_SECONDS):
            kept = services.delete_but_keep(sae)
        nudge(sae_id)
        return shelf.relative(kept) if kept else ""
    Sae.objects.filter(id=sae_id).delete()
    nudge(sae_id)
    # A worker that is still at it removes the files itself, once it notices.
    with suppress(Conflict), shelf.hold(sae_id, _no_check, LET_GO_SECONDS):
        shelf.remove(sae_id)
    return ""


def _no_check() -> None:
    """Nobody can cancel a deletion."""


# --- finding again -------------------------------------------------------------------------------


def horse_died(job_id: str, pid: int) -> None:
    """The process that ran this job was killed while its worker lives: probably out of memory."""
    job = Job.objects.filter(id=job_id, state=Job.State.RUNNING).first()
    if job is None or not is_of(job.worker, pid):
        return  # another process has it by now
    deaths = job.deaths + 1 if job.progress <= job.progress_at_death else 1
    Job.objects.held(job).update(deaths=deaths, progress_at_death=job.progress)
    if deaths >= MOST_DEATHS:
        _fail(job, WorkerKilled(f"Its worker was killed {deaths} times."))
    else:
        _requeue(job)


def recover() -> None:
    """Jobs whose worker is gone go back to the queue, and queued ones that Redis lost come back."""
    lost = set(Job.objects.lost())
    for job in Job.objects.filter(state=Job.State.RUNNING):
        if job in lost or not is_alive(job.worker):
            _requeue(job)
    _enqueue_lost()


def _requeue(job: Job) -> None:
    with transaction.atomic():
        won = Job.objects.held(job).update(
            state=Job.State.QUEUED,
            lease="",
            worker="",
            bytes_per_second=0,
            version=F("version") + 1,
        )
        if not won:
            return
        again = Job.objects.get(id=job.id)
        carry_over(again)
        transaction.on_commit(lambda: _enqueue(again))


def _enqueue_lost() -> None:
    limit = timezone.now() - timedelta(seconds=5)
    waiting = Job.objects.filter(state=Job.State.QUEUED, updated_at__lt=limit)
    if not waiting.exists():
        return
    queue = django_rq.get_queue(QUEUE)
    known = set(queue.get_job_ids()) | set(queue.started_job_registry.get_job_ids(cleanup=False))
    for job in waiting:
        if f"{job.id}-{job.attempt}" not in known:
            _enqueue(job)
