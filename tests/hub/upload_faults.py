"""Things that go wrong on the way up: before the work is done, or after it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.hub.answers import Answer, Request, plain
from tests.hub.faults import Action


def _event(after: int, what: str | float) -> Action:
    def change(request: Request, answer: Answer) -> Answer:
        request.delivery.events.append((after, what))
        return answer

    return Action(change, early=True)


def cut_upload(after: int) -> Action:
    """The connection is closed once so many bytes of the request's body were read."""
    return _event(after, "cut")


def stall_upload(after: int, seconds: float) -> Action:
    """Nothing is read for some time after so many bytes; then the rest is."""
    return _event(after, float(seconds))


def slow_upload(bytes_per_second: float) -> Action:
    def change(request: Request, answer: Answer) -> Answer:
        request.delivery.speed = bytes_per_second
        return answer

    return Action(change, early=True)


def refused(code: int, headers: Mapping[str, str] | None = None, text: str = "") -> Action:
    """This status, and nothing of what was asked for is done."""

    def change(request: Request, answer: Answer) -> Answer:
        made = plain(text.encode(), status=code)
        made.headers |= dict(headers or {})
        return made

    return Action(change, early=True)


def lost_answer() -> Action:
    """What was asked for is done, and the connection ends before the answer."""

    def change(request: Request, answer: Answer) -> Answer:
        answer.delivery.lost = True
        return answer

    return Action(change, lambda request, answer: answer.status < 300)


def late_answer(seconds: float) -> Action:
    """What was asked for is done at once, and told some time later."""

    def change(request: Request, answer: Answer) -> Answer:
        answer.delivery.late = seconds
        return answer

    return Action(change)
