"""Finding jobs again whose worker is gone, and those that the queue lost."""

from datetime import timedelta

import django_rq
from django.utils import timezone

from saes import vault
from saes.errors import WorkerKilled
from saes.jobs import QUEUE, enqueue, fail, requeue
from saes.models import Job
from saes.processes import is_alive, is_of

MOST_DEATHS = 3  # workers killed at the same point: more of the same would not help


def horse_died(job_id: str, pid: int) -> None:
    """The process that ran this job was killed while its worker lives: probably out of memory."""
    job = Job.objects.filter(id=job_id, state=Job.State.RUNNING).first()
    if job is None or not is_of(job.worker, pid):
        return  # another process has it by now
    deaths = job.deaths + 1 if job.progress <= job.progress_at_death else 1
    Job.objects.held(job).update(deaths=deaths, progress_at_death=job.progress)
    if deaths >= MOST_DEATHS:
        fail(job, WorkerKilled(f"Its worker was killed {deaths} times."))
    else:
        requeue(job)


def recover() -> None:
    """Jobs whose worker is gone go back to the queue, and queued ones that Redis lost come back."""
    lost = set(Job.objects.lost())
    for job in Job.objects.filter(state=Job.State.RUNNING):
        if job in lost or not is_alive(job.worker):
            requeue(job)
    _enqueue_lost()
    vault.sweep()


def _enqueue_lost() -> None:
    limit = timezone.now() - timedelta(seconds=5)
    waiting = Job.objects.filter(state=Job.State.QUEUED, updated_at__lt=limit)
    if not waiting.exists():
        return
    queue = django_rq.get_queue(QUEUE)
    known = set(queue.get_job_ids()) | set(queue.started_job_registry.get_job_ids(cleanup=False))
    for job in waiting:
        if f"{job.id}-{job.attempt}" not in known:
            enqueue(job)
