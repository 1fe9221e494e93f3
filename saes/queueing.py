"""The queue: its entries say that there is work. What is done next, the rows decide."""

import logging
from collections.abc import Sequence

import django_rq
from redis.exceptions import RedisError
from rq import Queue

from saes.models import Job, JobQuerySet

log = logging.getLogger(__name__)
QUEUE = "sae"
FUNCTION = "saes.jobs.take_turn"  # the only one that a worker calls
RESULT_SECONDS, FAILURE_SECONDS = 600, 3600  # how long RQ remembers an entry


def answers() -> bool:
    try:
        return bool(django_rq.get_queue(QUEUE).connection.ping())
    except RedisError:
        return False


def enqueue(jobs: Sequence[Job]) -> None:
    """An entry for each. While Redis is away the rows wait: recovery comes back to them."""
    entry = Queue.prepare_data(
        FUNCTION, result_ttl=RESULT_SECONDS, failure_ttl=FAILURE_SECONDS, timeout=-1
    )
    try:
        django_rq.get_queue(QUEUE).enqueue_many([entry] * len(jobs))
    except RedisError:
        log.warning("the queue cannot be reached; %s waits", ", ".join(job.id for job in jobs[:3]))


def top_up(waiting: JobQuerySet) -> None:
    """As many entries as there are jobs whose turn may come. Raises RedisError."""
    due = waiting.count()
    if due and (missing := due - django_rq.get_queue(QUEUE).count) > 0:
        enqueue(list(waiting.in_turn()[:missing]))
