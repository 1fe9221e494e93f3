"""Brings one file of the Hub to disk: resumed where it was cut, hashed as it comes."""

import time
from collections.abc import Callable

from saes import errors
from saes.hub import Hub, Interrupted, Listing, RemoteFile, exact
from saes.storage import PartFile

PATIENCE = 6  # attempts in a row that bring no byte
LONGEST_PAUSE = 60.0
# A 429 without Retry-After, and a broken connection, are asked again after 1, 2, 4 … seconds.

Wait = Callable[[float, str], None]  # seconds and why; shows it, and ends early on a cancel


def fetch(
    hub: Hub,
    listing: Listing,
    file: RemoteFile,
    part: PartFile,
    tick: Callable[[int], None],
    wait: Wait,
) -> None:
    """Fill `part` up to the size of `file`. Raises HubUnreachable when nothing comes any more."""
    fruitless = 0
    while part.size < file.size:
        before = part.size
        try:
            _stream(hub, listing, file, part, tick)
        except (Interrupted, errors.HubUnreachable, errors.RateLimited) as error:
            fruitless = 1 if part.size > before else fruitless + 1
            if fruitless >= PATIENCE:
                raise _given_up(file, error) from error
            pause, why = _pause(error, fruitless)
            wait(pause, f"{why}, goes on in {pause:.0f} s")


def _stream(
    hub: Hub, listing: Listing, file: RemoteFile, part: PartFile, tick: Callable[[int], None]
) -> None:
    with hub.body(hub.locate(listing, file), part.size, file.size) as answer:
        for chunk in exact(answer, file.size - part.size):
            part.write(chunk)
            tick(part.size)


def _pause(error: Exception, fruitless: int) -> tuple[float, str]:
    backoff = min(2.0 ** (fruitless - 1), LONGEST_PAUSE)
    if isinstance(error, errors.RateLimited):
        return min(error.retry_after or backoff * 5, 3600), "rate limited"
    return backoff, "connection lost" if isinstance(error, Interrupted) else "the Hub is away"


def _given_up(file: RemoteFile, error: Exception) -> errors.SaeError:
    if isinstance(error, errors.SaeError):
        return error
    return errors.HubUnreachable(
        f"{file.name}: {error}, {PATIENCE} times in a row.",
        solution="What came so far is kept; retry when the network is better.",
    )


def pause(seconds: float, check: Callable[[], None], step: float = 0.25) -> None:
    """Sleep, but call `check` often: it raises when the work is no longer wanted."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(step, left))
