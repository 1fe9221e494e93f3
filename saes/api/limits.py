"""How often somebody may ask: requests of the last minute, counted for each user."""

import threading
import time
from collections import deque

from django.conf import settings

from saes.errors import RateLimited

WINDOW = 60.0
_asked: dict[int | None, deque[float]] = {}
_lock = threading.Lock()  # requests are served by many threads, and there is one web process


def count(user_id: int | None) -> None:
    """One more request of this user, by whatever token. Raises RateLimited."""
    now = time.monotonic()
    with _lock:
        times = _asked.setdefault(user_id, deque())
        while times and times[0] <= now - WINDOW:
            times.popleft()
        if len(times) >= settings.API_REQUESTS_PER_MINUTE:
            raise _too_many(times[0] + WINDOW - now)
        times.append(now)


def forget() -> None:
    """Everybody starts anew."""
    with _lock:
        _asked.clear()


def _too_many(wait: float) -> RateLimited:
    return RateLimited(
        "Rate limit exceeded: too many requests to this server.",
        wait,
        solution="Wait as long as Retry-After says.",
    )
