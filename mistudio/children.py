"""One process under the supervisor: started, listened to, ended, and started again."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from mistudio.lifeline import die_with

MOST_STARTS = 6  # in so many seconds; more of the same would not help
WINDOW = 60.0

Ending = Sequence[tuple[float, signal.Signals]]
PATIENT: Ending = ((0, signal.SIGTERM), (4, signal.SIGKILL))
# RQ's worker finishes its job on the first TERM and drops it on the second.
WORKER: Ending = ((0, signal.SIGTERM), (2, signal.SIGTERM), (6, signal.SIGKILL))
SERVER: Ending = ((0, signal.SIGTERM), (2, signal.SIGKILL))


@dataclass
class Child:
    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ending: Ending = PATIENT
    hush: Sequence[str] = ()  # lines with one of these are not worth showing
    others_need_it: bool = False  # stopped only when they have ended
    process: "subprocess.Popen[bytes] | None" = None
    _starts: deque[float] = field(default_factory=deque)
    _unfinished: bytes = b""

    def start(self) -> None:
        # A session of its own: Ctrl-C reaches the supervisor alone, which then stops in order.
        self.process = subprocess.Popen(
            self.argv,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Safe here: the supervisor has no threads.
            preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509
        )
        os.set_blocking(self.pipe, False)
        self._starts.append(time.monotonic())

    @property
    def pipe(self) -> int:
        assert self.process is not None and self.process.stdout is not None
        return self.process.stdout.fileno()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def lines(self) -> Iterator[str]:
        """What it has written since the last call, as whole lines."""
        *whole, self._unfinished = (self._unfinished + self._read()).split(b"\n")
        for line in whole:
            text = line.decode(errors="replace").rstrip()
            if text and not any(word in text for word in self.hush):
                yield text

    def _read(self) -> bytes:
        chunks = []
        try:
            while chunk := os.read(self.pipe, 65536):
                chunks.append(chunk)
        except BlockingIOError:
            pass
        return b"".join(chunks)

    def close(self) -> None:
        """Forget a process that has ended."""
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        self.process, self._unfinished = None, b""

    def send(self, number: signal.Signals) -> None:
        if not self.is_running or self.process is None:
            return
        if number == signal.SIGKILL:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def how_it_ended(self) -> str:
        assert self.process is not None
        code = self.process.returncode
        if code >= 0:
            return f"ended with code {code}"
        return f"was killed by {signal.Signals(-code).name}"

    def delay(self) -> float | None:
        """Seconds to wait before the next start; None when it has been started too often."""
        limit = time.monotonic() - WINDOW
        while self._starts and self._starts[0] < limit:
            self._starts.popleft()
        if len(self._starts) >= MOST_STARTS:
            return None
        return 0.1 * 3.0 ** (len(self._starts) - 1) if self._starts else 0.0
