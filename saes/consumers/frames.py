"""What programs may say on `/ws/`: frames and names of channels, and how much of them at once."""

import json
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from saes.errors import BadRequest, RateLimited, SaeError
from saes.events import TOPICS

MOST_BYTES = 64 * 1024  # of one frame
MOST_WAITING = 1024 * 1024  # bytes of frames that are not answered yet
MOST_NAMED = 1000  # channels in one frame
FRAMES_PER_SECOND = 100
BURST = 3 * FRAMES_PER_SECOND  # more than the rate for three seconds is a flood
EVERY = "*"
NAME = re.compile(rf"sae/(\*|[A-Za-z0-9_-]{{1,32}})(?:/({'|'.join(TOPICS)}|\*))?")
HINT = "Channels are sae/{id}/download, sae/{id}/upload, sae/{id}/*, sae/*/download and sae/*."
FORM = 'Send {"action": "subscribe" or "unsubscribe", "channels": ["sae/{id}/download"]}.'
SHORTER = "Name fewer channels in one frame."
FEWER = "Name many channels in one frame, and wait for the answer."

# Close codes: of those that RFC 6455 names, daphne sends only 1000. These are HTTP's, plus 4000.
NONSENSE, NOT_KNOWN, NOT_TAKEN, TOO_LONG, TOO_MANY = 4400, 4401, 4408, 4413, 4429


class HangUp(Exception):
    """The socket is closed with this code, after an error frame that says why."""

    def __init__(self, code: int, why: SaeError) -> None:
        super().__init__(code)
        self.code, self.why = code, why


class Channel(NamedTuple):
    """`sae/{sae_id}/{topic}`; each may be `*`."""

    sae_id: str
    topic: str

    @classmethod
    def parse(cls, name: str) -> "Channel":
        """Raises BadRequest."""
        found = NAME.fullmatch(name)
        if not found or (found[2] is None and found[1] != EVERY):
            raise BadRequest("There is no such channel.", solution=HINT)
        return cls(found[1], found[2] or EVERY)

    def __str__(self) -> str:
        if self == (EVERY, EVERY):
            return "sae/*"
        return f"sae/{self.sae_id}/{self.topic}"


@dataclass(frozen=True)
class Wish:
    """A frame that was understood; its channels were not looked at yet."""

    action: str
    channels: list[str]
    id: str | int | None = None  # whoever gives one wants an acknowledgement that repeats it


def parse(frame: str | None) -> Wish:
    """None is a frame of bytes. Raises BadRequest."""
    if frame is None:
        raise _bad("Frames of bytes are not understood here.")
    try:
        said: Any = json.loads(frame)
    except (ValueError, RecursionError):
        raise _bad("This frame is no JSON.") from None
    if not isinstance(said, dict) or set(said) - {"id"} != {"action", "channels"}:
        raise _bad("A frame is an object with the fields action, channels and, if you like, id.")
    if said["action"] not in ("subscribe", "unsubscribe"):
        raise _bad("The action is neither subscribe nor unsubscribe.")
    return Wish(said["action"], _names(said["channels"]), _id(said.get("id")))


def _id(value: Any) -> str | int | None:
    if value is None or type(value) is int or (isinstance(value, str) and len(value) <= 100):
        return value
    raise _bad("The field id is a whole number or a short text.")


def _names(channels: Any) -> list[str]:
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise _bad("The field channels is no list of names.")
    if not 0 < len(channels) <= MOST_NAMED:
        raise _bad(f"A frame names 1 to {MOST_NAMED} channels.")
    return list(dict.fromkeys(channels))


def _bad(message: str) -> BadRequest:
    return BadRequest(message, solution=FORM)


class Inbox:
    """Frames that wait for their answer. The server takes whatever comes: the bound is here."""

    def __init__(self) -> None:
        self._frames: deque[tuple[str | None, int]] = deque()
        self._bytes = 0
        self._level = 0.0  # a bucket that each frame fills, and that empties as time passes
        self._at = time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, text: str | None, data: bytes | None) -> None:
        """Raises HangUp for a frame that is too long, and for too many of them."""
        size = len(data or b"") if text is None else len(text.encode(errors="replace"))
        if size > MOST_BYTES:
            error = BadRequest(f"A frame has at most {MOST_BYTES} bytes.", solution=SHORTER)
            raise HangUp(TOO_LONG, error)
        now = time.monotonic()
        self._level = max(0.0, self._level - (now - self._at) * FRAMES_PER_SECOND) + 1
        self._at = now
        self._bytes += size
        if self._level > BURST or self._bytes > MOST_WAITING:
            many = RateLimited("Too many frames in too short a time.", solution=FEWER)
            raise HangUp(TOO_MANY, many)
        self._frames.append((text, size))

    def first(self) -> str | None:
        return self._frames[0][0]

    def drop_first(self) -> None:
        self._bytes -= self._frames.popleft()[1]
