"""What goes wrong in the soak test: at the Hub, with processes, and by impatient users."""

import random
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from tests.apps import App, wait_for
from tests.hub import LocalHub, faults
from tests.hub.answers import Request
from tests.hub.faults import Action
from tests.soak.world import Program, rows

RESTS = 11.0  # seconds between two kills of one process: the supervisor gives up after six a minute


class Mischief:
    def __init__(self, hub: LocalHub, app: App, program: Program, dice: random.Random) -> None:
        self.hub, self.app, self.program, self.dice = hub, app, program, dice
        self.done: dict[str, int] = {}
        self._killed: dict[str, float] = {}

    def something(self) -> None:
        acts: list[tuple[Callable[[], str], int]] = [
            (self._fault, 50), (self._horse, 14), (self._part, 6), (self._everything, 2),
            (self._pause, 10), (self._cancel, 6), (self._resume, 12),
        ]  # fmt: skip
        (act,) = self.dice.choices([it for it, _ in acts], [often for _, often in acts])
        with suppress(psutil.Error):
            name = act()
            self.done[name] = self.done.get(name, 0) + 1

    # --- the Hub -------------------------------------------------------------------------------

    def _fault(self) -> str:
        origin, size = self.dice.choice(["hub", "cdn", "cdn"]), self.dice.randrange(1, 2_000_000)
        kinds: dict[str, Action] = {
            "cut": faults.cut(size),
            "reset": faults.reset(size),
            "5xx": faults.status(self.dice.choice([500, 502, 503, 504])),
            "429": faults.status(429, {"Retry-After": str(self.dice.randrange(4))}),
            "429 without a word": faults.status(429),
            "expired": faults.expired_url(),
            "stall": faults.stall(size, self.dice.choice([0.5, 3.0, 25.0])),
            "slow": faults.slow(self.dice.choice([500.0, 200_000.0])),
            "corrupt": faults.corrupt(size),
            "wrong length": faults.wrong_length(size),
            "login page": faults.html_login_page(),
            "another range": faults.wrong_content_range(),
        }
        common = [*["cut", "reset", "5xx", "expired", "stall"] * 3, *kinds]
        name = self.dice.choice(common)
        if name == "expired":
            origin = "cdn"

        def meant(request: Request) -> bool:
            return request.origin == origin

        self.hub.faults.add(meant, kinds[name], times=self.dice.choice([1, 1, 2]))
        return name

    # --- processes -----------------------------------------------------------------------------

    def _horse(self) -> str:
        if horses := self.app.horses():
            self.dice.choice(horses).kill()
        return "kill of a job's process"

    def _part(self) -> str:
        kind = self.dice.choice(["worker", "web", "redis"])
        parts = self.app.parts(kind)
        if parts and time.monotonic() - self._killed.get(kind, 0.0) > RESTS:
            self._killed[kind] = time.monotonic()
            self.dice.choice(parts).kill()
            return f"kill of {kind}"
        return "nothing"

    def _everything(self) -> str:
        victims = self.app.descendants()
        self.app.process.kill()
        for victim in victims:
            with suppress(psutil.Error):
                victim.kill()
        self.app.wait()
        wait_for(lambda: not any(it.is_running() and it.status() != "zombie" for it in victims))
        self.app.lines.clear()
        self.app.start().wait_until_ready(120)
        return "kill of everything"

    # --- users ---------------------------------------------------------------------------------

    def _of(self, *states: str) -> str | None:
        asked = ", ".join(f"'{state}'" for state in states)
        found = rows(self.app, f"SELECT id FROM saes_job WHERE state IN ({asked}) ORDER BY id")
        return str(self.dice.choice(found)["id"]) if found else None

    def _steer(self, verb: str, *states: str) -> str:
        if job := self._of(*states):
            self.program("POST", f"/jobs/{job}/{verb}")
        return verb

    def _pause(self) -> str:
        return self._steer("pause", "queued", "running", "running")

    def _cancel(self) -> str:
        return self._steer("cancel", "queued", "running", "paused")

    def _resume(self) -> str:
        return self._steer("resume", "paused")
