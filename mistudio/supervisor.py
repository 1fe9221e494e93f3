"""Keeps the children running until it is told to stop, then stops them in order.

It has one thread: it waits for what the children write, and looks at them five times a second.
"""

import select
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

from mistudio.children import WINDOW, Child
from mistudio.preflight import CannotStart

TICK = 0.2
QUICK_TICK = 0.02  # while something is awaited

Say = Callable[[str], None]
Plan = list[tuple[float, signal.Signals]]


class Supervisor:
    """Use as a context: whatever happens inside, no child outlives it."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._children: list[Child] = []
        self._due: dict[str, float] = {}  # name -> when it is started again
        self.signals = 0

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks for just that
            signal.signal(signal.SIGHUP, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1

    def start(self, child: Child) -> None:
        """Start it, and from now on start it again whenever it ends."""
        self._children.append(child)
        child.start()

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Whether `ready` came true in time; False at once when asked to stop."""
        limit = time.monotonic() + seconds
        while not self.signals and time.monotonic() < limit:
            if ready():
                return True
            self._tick(QUICK_TICK)
        return False

    def watch(self) -> None:
        """Until asked to stop. Raises CannotStart when a child cannot be kept running."""
        while not self.signals:
            self._tick(TICK)

    # --- one look at the children ---------------------------------------------------------------

    def _tick(self, seconds: float) -> None:
        self._listen(seconds)
        for child in self._children:
            if child.process is not None and not child.is_running:
                self._plan_restart(child)
            elif child.process is None and self._due[child.name] <= time.monotonic():
                child.start()

    def _listen(self, seconds: float) -> None:
        heard = {child.pipe: child for child in self._children if child.is_running}
        ready = select.select(list(heard), [], [], seconds)[0]
        for pipe in ready:
            self._repeat(heard[pipe])
        if ready:
            time.sleep(QUICK_TICK)  # a child that floods its log does not keep us busy

    def _repeat(self, child: Child) -> None:
        for line in child.lines():
            self._say(f"{child.name:<8} | {line}")

    def _plan_restart(self, child: Child) -> None:
        self._repeat(child)
        ended = f"{child.name} {child.how_it_ended()}"
        child.close()
        delay = child.delay()
        if delay is None:
            raise CannotStart(
                f"{ended}, too often within {WINDOW:.0f} seconds. Its last lines are above."
            )
        self._say(f"{ended}; starting it again.")
        self._due[child.name] = time.monotonic() + delay

    # --- the end ---------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._end([child for child in self._children if not child.others_need_it])
        self._end([child for child in self._children if child.others_need_it])

    def _end(self, children: list[Child]) -> None:
        ending = [child for child in children if child.process is not None]
        plans = {child.name: list(child.ending) for child in ending}
        begun, asked_before = time.monotonic(), self.signals
        while ending:
            for child in ending:
                self._repeat(child)
                if self.signals > asked_before:  # asked again: at once
                    plans[child.name] = [(0, signal.SIGKILL)]
                self._send_due(child, plans[child.name], time.monotonic() - begun)
            time.sleep(QUICK_TICK)
            ending = [child for child in ending if not self._has_ended(child)]

    def _send_due(self, child: Child, plan: Plan, elapsed: float) -> None:
        if plan and elapsed >= plan[0][0]:
            child.send(plan.pop(0)[1])

    def _has_ended(self, child: Child) -> bool:
        if child.is_running:
            return False
        self._repeat(child)
        child.close()
        return True
