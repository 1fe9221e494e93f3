"""One more worker, on this machine or on another one."""

import sys
from typing import Any

from django.core.management.base import BaseCommand
from redis.exceptions import ConnectionError as RedisConnectionError

from saes.worker import make_worker


class Command(BaseCommand):
    help = (
        "Run one more worker on the queue `sae`. On another machine it needs the same "
        "MISTUDIO_REDIS_URL, MISTUDIO_DATABASE_URL and MISTUDIO_DATA_DIR (a shared folder)."
    )
    requires_system_checks: list[str] = []  # half a second of every restart

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            make_worker().work(logging_level="WARNING")
        except RedisConnectionError:
            sys.exit("The queue does not answer. Start miStudio first, or set MISTUDIO_REDIS_URL.")
