"""Waiting for a job. Where no worker runs, on a laptop without `start`, it is done right here."""

import threading
import time

import django_rq
from django.db import OperationalError, connection
from redis.exceptions import RedisError
from rq import Worker

from saes import jobs, moves, processes, queueing
from saes.errors import NotFound
from saes.management.bar import Bar
from saes.models import Job

LOOK_EVERY = 0.2  # seconds, at the row
COUNT_EVERY = 2.0  # seconds, at the workers
LET_GO_SECONDS = 5.0


def workers() -> int:
    """How many there are, on any machine. One that was killed counts until Redis forgets it."""
    try:
        return len(Worker.all(queue=django_rq.get_queue(queueing.QUEUE)))
    except RedisError:
        return 0


def follow(job: Job, bar: Bar) -> Job:
    """The job once it has ended or is paused. Raises NotFound where it is deleted meanwhile.

    Ctrl-C leaves it to whoever comes next, with all that was fetched.
    """
    hand = Hand(job.id)
    try:
        while (job := _row(job.id)).state in (Job.State.QUEUED, Job.State.RUNNING):
            if hand.lend(job):
                bar.begin("No worker runs, so the work is done here")
            else:
                bar.show(job)
            time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        hand.let_go()
        raise
    finally:
        bar.close()
    hand.wait()
    return job


def _row(job_id: str) -> Job:
    job = Job.objects.select_related("created_by").filter(id=job_id).first()
    if job is None:
        raise NotFound(f"{job_id} was deleted meanwhile.", solution="Start it again if need be.")
    return job


class Hand:
    """This process as a worker, where there is no other: a thread, so that Ctrl-C is heard."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._thread: threading.Thread | None = None
        self._counted = -COUNT_EVERY

    def lend(self, job: Job) -> bool:
        """Begin the work, and say so; not where somebody is at it or may come for it."""
        lost = job.state == Job.State.RUNNING and not processes.is_alive(job.worker)
        if self._is_at_it() or (job.state == Job.State.RUNNING and not lost):
            return False
        if time.monotonic() - self._counted < COUNT_EVERY:
            return False
        self._counted = time.monotonic()
        if workers():
            return False
        if lost:
            moves.requeue(job)
        self._thread = threading.Thread(target=_run, args=[job.id], daemon=True)
        self._thread.start()
        return True

    def _is_at_it(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def let_go(self) -> None:
        """Without its lease the thread stops at its next byte, and the job waits in the library."""
        if self._is_at_it():
            job = _row(self._job_id)
            if job.worker == processes.this_process():
                moves.requeue(job)
        self.wait(LET_GO_SECONDS)

    def wait(self, seconds: float | None = None) -> None:
        if self._thread is not None:
            self._thread.join(seconds)


def _run(job_id: str) -> None:
    try:
        jobs.run(job_id)
    except OperationalError:
        return  # the database was busy: the row says so, and whoever follows it tries again
    finally:
        connection.close()
