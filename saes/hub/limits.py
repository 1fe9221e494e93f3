"""Rate limits of hosts: what one process is told, all of them keep to.

A small file for each host in a folder that they share. Nobody sleeps here: who asks is told how
long to wait.
"""

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

FIRST, LONGEST = 5.0, 3600.0  # seconds
MOST_BACKOFF = 300.0  # where the host does not say how long
FORGOTTEN = 600.0  # seconds after a limit, the next one is a first one again
# A limit of the header RateLimit that is used up: r are left, t seconds until there are new ones.
_USED_UP = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Limits:
    """`folder` None: no limit is remembered, for scripts."""

    folder: Path | None = None

    def left(self, host: str) -> float:
        """Seconds until the host may be asked again; 0 for now."""
        return _left(self._told(host))

    def strike(self, host: str, asked: float | None) -> float:
        """The host answered 429, and asked to wait so long. Seconds to wait."""
        told, now = self._told(host), time.time()
        left, strikes = _left(told), told.get("strikes", 0.0)
        if not left:  # else several connections were refused at once: that is one limit
            strikes = strikes + 1 if now - told.get("until", 0.0) < FORGOTTEN else 1.0
        wait = min(FIRST * 2 ** (max(strikes, 1.0) - 1), MOST_BACKOFF) if asked is None else asked
        wait = min(wait, LONGEST)
        self._tell(host, {"until": now + max(wait, left), "strikes": min(strikes, 20.0)})
        return wait

    def _path(self, host: str) -> Path | None:
        return self.folder / re.sub(r"[^a-z0-9.-]", "_", host.lower()) if self.folder else None

    def _told(self, host: str) -> dict[str, float]:
        path = self._path(host)
        try:
            told: Any = json.loads(path.read_text()) if path else {}
        except (OSError, ValueError):  # none, or one that a kill left half written
            return {}
        return told if isinstance(told, dict) else {}

    def _tell(self, host: str, told: Mapping[str, float]) -> None:
        path = self._path(host)
        if path is None:
            return
        draft = path.with_name(f"{path.name}.{time.monotonic_ns()}")
        with suppress(OSError):  # the disk is full: then whoever asked knows of it alone
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(told))
            draft.replace(path)


def _left(told: Mapping[str, float]) -> float:
    seconds = told.get("until", 0.0) - time.time()
    # More is never told: where it seems so, the clock was set back.
    return seconds if 0 < seconds <= LONGEST + 1 else 0.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a 429 asks to wait; None where it asks nothing usable."""
    asked = _retry_after(headers)
    return _reset(headers) if asked is None else asked


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """By the header of this name, as a number or a date."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), LONGEST)
    try:
        then = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    seconds = (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - time.time()
    return min(seconds, LONGEST) if seconds > 0 else None


def _reset(headers: Mapping[str, str]) -> float | None:
    """By the header RateLimit, of which there may be one for each kind of question."""
    resets = _USED_UP.findall(headers.get("ratelimit", ""))
    return min(max(map(float, resets)), LONGEST) if resets else None
