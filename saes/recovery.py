"""Finding jobs again whose worker is gone, and those that the queue lost."""

from datetime import timedelta

from django.utils import timezone

from saes import queueing, uploaded, vault
from saes.errors import WorkerKilled
from saes.jobs import fail
from saes.models import Job
from saes.moves import requeue
from saes.processes import is_alive, name_of

MOST_DEATHS = 3  # workers killed at the same point: more of the same would not help
JUST_NOW = timedelta(seconds=5)  # whoever queued it may be about to tell the queue


def horse_died(pid: int) -> None:
    """The process that ran a job was killed while its worker lives: probably out of memory."""
    rows = Job.objects.filter(state=Job.State.RUNNING, worker__startswith=name_of(pid))
    for job in rows:  # none, where it was between two jobs
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
    queueing.top_up(Job.objects.due().filter(updated_at__lt=timezone.now() - JUST_NOW))
    vault.sweep()
    uploaded.sweep()
