"""Waiting for a Hub that is away, limited or slow, without ever being deaf to a cancel."""

import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from saes import errors
from saes.hub import Interrupted
from saes.progress import STEP, NotNow, Resource

T = TypeVar("T")
ATTEMPTS = 8  # in a row that bring no byte: about two minutes
QUESTIONS = 4  # the same for questions, which bring none: 7 s
LONGEST_PAUSE = 60.0
WORTH_A_WORD = 5.0  # seconds in which nothing comes
HOLDS_A_WORKER = 60.0  # seconds of a rate limit that are waited for; longer ones make room

TRANSIENT = (Interrupted, errors.HubUnreachable, errors.RateLimited)


class Watch(Protocol):
    """Whoever waits for a transfer: is told where it is, and says when it is over."""

    def check(self) -> None:
        """Raises Stopped."""

    def say(self, why: str) -> None:
        """What it waits for; empty when it goes on."""


def keep_asking(question: Callable[[], T], watch: Watch) -> T:
    """The answer to a question that may fail for a moment. Raises NotNow, Stopped and its own."""
    for attempt in range(1, QUESTIONS):
        try:
            return attend(question, watch)
        except TRANSIENT as error:
            wait(*pause_after(error, attempt), watch)
    try:
        return attend(question, watch)
    except errors.RateLimited as error:
        pause_after(error, QUESTIONS)
        raise


def attend(question: Callable[[], T], watch: Watch, moved: Callable[[], int] = lambda: 0) -> T:
    """What a call gives that may block for long; a cancel leaves it behind, in its thread.

    `moved`: bytes that went by. As long as they do, nobody waits for an answer.
    """
    pool, told, asked, before = ThreadPoolExecutor(1), 0, time.monotonic(), 0
    try:
        answer = pool.submit(question)
        while not futures.wait([answer], STEP).done:
            watch.check()
            if (now := moved()) != before:
                before, asked = now, time.monotonic()
            seconds = int(time.monotonic() - asked)
            seconds = seconds if seconds >= WORTH_A_WORD else 0
            if seconds != told:
                watch.say(f"No answer for {seconds} s" if seconds else "")
                told = seconds
        if told:
            watch.say("")
        return answer.result()
    finally:
        pool.shutdown(wait=False)


def pause_after(error: Exception, fruitless: int) -> tuple[float, str]:
    """Seconds, and why, after the `fruitless`th failure in a row.

    Raises NotNow for a rate limit that is too long to hold a worker, and for one after the other.
    """
    backoff = min(2.0 ** (fruitless - 1), LONGEST_PAUSE)
    if not isinstance(error, errors.RateLimited):
        return backoff, "connection lost" if isinstance(error, Interrupted) else "the Hub is away"
    seconds = error.retry_after or backoff * 5
    if seconds > HOLDS_A_WORKER or fruitless >= QUESTIONS:
        longer = max(seconds, HOLDS_A_WORKER)
        raise NotNow("Rate limited by the Hub", Resource.HUB, longer) from error
    return seconds, "rate limited"


def wait(seconds: float, why: str, watch: Watch) -> None:
    """Sleep, telling each second how long it still takes."""
    end = time.monotonic() + seconds
    told = -1
    while (left := end - time.monotonic()) > 0:
        watch.check()
        if told != (whole := max(1, round(left))):
            watch.say(f"{why}, goes on in {whole} s")
            told = whole
        time.sleep(min(STEP, left))
    watch.say("")
