"""The worker: RQ's, which runs one function only and tells the jobs what happened to them."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import django_rq
from django.db import DatabaseError, connections
from redis import Redis
from redis.exceptions import RedisError
from rq import Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from mistudio.lifeline import die_with
from saes import recovery
from saes.queueing import FUNCTION, QUEUE

log = logging.getLogger(__name__)
# What RQ raises over an entry that is no entry.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, AssertionError, OverflowError)


class SaeQueueJob(Job):
    """Whoever can write to Redis could otherwise name any function of any module, and run it."""

    def perform(self) -> Any:
        if self.func_name != FUNCTION:
            raise PermissionError(f"the queue may ask for {FUNCTION} and for nothing else")
        return super().perform()

    def restore(self, raw_data: Any) -> None:
        """An entry that cannot even be read is none; RQ would end the worker over it."""
        try:
            super().restore(raw_data)
        except UNREADABLE as error:
            raise NoSuchJobError("an entry of the queue cannot be read") from error

    # RQ would import and call what these name, too.
    success_callback = failure_callback = stopped_callback = None
    webhooks = ()  # type: ignore[assignment]


class SaeWorker(Worker):
    """Forks a horse for each job. Neither outlives its parent."""

    log_result_lifespan = False

    def _set_ip_address(self, connection: Redis) -> None:
        # RQ would ask CLIENT INFO, which redis-py cannot read if the socket's path has a space.
        self.ip_address = "unknown"

    def run_maintenance_tasks(self) -> None:
        """At the start, and every ten seconds while it waits."""
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        try:
            recovery.recover()
        except (DatabaseError, RedisError):
            log.warning("lost jobs could not be looked for; the next try is in ten seconds")
        finally:
            connections.close_all()  # a fork must not share one

    def maintain_heartbeats(self, job: Job, execution: Any) -> None:
        """While the queue is away the job goes on: ending over it would end the horse, too."""
        with suppress(RedisError):
            super().maintain_heartbeats(job, execution)

    def handle_work_horse_killed(self, job: Job, retpid: Any, ret_val: Any, rusage: Any) -> None:
        """Killed, by the system for want of memory or by hand: nothing of the job itself ran on."""
        try:
            recovery.horse_died(retpid)
        except (DatabaseError, RedisError):
            log.warning("the death of a job's process could not be noted; recovery will find it")
        finally:
            connections.close_all()

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        assert self.pid is not None
        die_with(self.pid)
        with suppress(OSError):  # when memory runs out, this is the process to end, no other
            Path("/proc/self/oom_score_adj").write_text("500")
        super().main_work_horse(job, queue)


def make_worker() -> SaeWorker:
    # The queue reads entries too, when it tidies up: by the same class.
    queue = django_rq.get_queue(QUEUE, job_class=SaeQueueJob)
    return SaeWorker(
        [queue],
        connection=queue.connection,
        job_class=SaeQueueJob,
        serializer=JSONSerializer,
        # RQ's own are 420, 600 and 30 seconds: a lost job would wait ten minutes to be noticed.
        worker_ttl=25,  # it waits for work 15 seconds less than this, then does its maintenance
        maintenance_interval=9,
        job_monitoring_interval=5,
        log_job_description=False,
    )
