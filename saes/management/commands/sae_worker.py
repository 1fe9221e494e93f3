"""One more worker, on this machine or on another one."""

import sys
import time
from typing import Any

from django.core.management.base import BaseCommand
from redis.exceptions import ConnectionError as RedisConnectionError

from saes import queueing
from saes.worker import make_worker

LOOK_AGAIN = 1.0  # seconds


class Command(BaseCommand):
    help = (
        "Run one more worker on the queue `sae`. On another machine it needs the same "
        "MISTUDIO_REDIS_URL, MISTUDIO_DATABASE_URL and MISTUDIO_DATA_DIR (a shared folder)."
    )
    requires_system_checks: list[str] = []  # half a second of every restart

    def handle(self, *args: Any, **options: Any) -> None:
        if not queueing.answers():
            self._wait_for_queue()
        try:
            make_worker().work(logging_level="WARNING")
        except RedisConnectionError:
            sys.exit("The queue does not answer any more.")

    def _wait_for_queue(self) -> None:
        """To end over it again and again would make the supervisor give up, and end everything."""
        self.stderr.write(
            "The queue does not answer; waiting for it. Start miStudio, or set MISTUDIO_REDIS_URL."
        )
        while not queueing.answers():
            time.sleep(LOOK_AGAIN)
