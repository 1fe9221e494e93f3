"""How far long work is: a bar on a terminal; elsewhere one line for each step."""

import os
import time

from django.core.management.base import OutputWrapper

from saes.management.output import put
from saes.management.tables import cut, plain, width
from saes.models import Job
from saes.progress import Silent, Stage
from saes.templatetags.values import duration, filesize, out_of

WIDTH = 30
DRAWN_EVERY = 0.1  # seconds


class Bar(Silent):
    """The Reporter of work in this process; show() draws that of another one."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out, self._live = out, out.isatty()
        self._said, self._drawn, self._wide = "", 0.0, 0

    def say(
        self, stage: Stage, message: str, *, file: str = "", index: int = 0, count: int = 0
    ) -> None:
        self.begin(message)

    def begin(self, message: str) -> None:
        """The next step; the same one again changes nothing."""
        message = plain(message)
        if message == self._said:
            return
        self.close()
        self._said = message
        self._draw("") if self._live else put(self._out, message)

    def show(self, job: Job) -> None:
        """A job as its row tells it."""
        if job.state == Job.State.QUEUED:
            self.begin("Waiting for a worker")
            return
        several = f" ({job.file_index} of {job.file_count})" if job.file_count > 1 else ""
        file = f" {job.file_name}{several}" if job.file_name else ""
        self.begin(f"{job.message or 'Beginning'}{file}")
        if job.bytes_total:
            self.advance(job.bytes_done, job.bytes_total, _pace(job))

    def advance(self, done: int, total: int, pace: str = "") -> None:
        now = time.monotonic()
        if not self._live or (now - self._drawn < DRAWN_EVERY and done < total):
            return
        self._drawn = now
        full = WIDTH * done // max(1, total)
        bar = "█" * full + "·" * (WIDTH - full)
        self._draw(f"  {bar} {100 * done // max(1, total):3} %{pace}")

    def _draw(self, rest: str) -> None:
        columns = os.get_terminal_size(self._out.fileno()).columns or 80
        line = cut(self._said, max(12, columns - 1 - len(rest))) + rest
        wide = width(line)
        put(self._out, f"\r{line}{' ' * (self._wide - wide)}", ending="")
        self._wide = wide

    def close(self) -> None:
        if self._said and self._live:
            put(self._out, "")
        self._said, self._wide = "", 0


def _pace(job: Job) -> str:
    speed = f"  {filesize(job.bytes_per_second)}/s" if job.bytes_per_second else ""
    left = f"  {duration(job.seconds_left)} left" if job.seconds_left else ""
    return f"  {out_of(job.bytes_done, job.bytes_total)}{speed}{left}"
