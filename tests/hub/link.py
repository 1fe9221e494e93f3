"""A line with an end to its speed: more connections bring nothing more."""

from __future__ import annotations

import threading
import time

BURST = 0.1  # seconds: what the line did not carry so long ago may still follow at once
STEPS = 50  # in a second: how finely those who share it take turns


class Link:
    """Bytes of everybody who sends over it, in turns: one token bucket."""

    def __init__(self, bytes_per_second: float) -> None:
        self.speed = bytes_per_second
        self.step = max(1, int(bytes_per_second / STEPS))
        self._lock = threading.Lock()
        self._free_at = 0.0

    def book(self, size: int) -> float:
        """Seconds until these bytes have passed. Whoever books next comes behind them."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - BURST) + size / self.speed
            return max(0.0, self._free_at - now)
