"""What was asked of the hub and of its CDN, and how much was really sent."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.hub.answers import Request, Slice


@dataclass
class Entry:
    """One request; `sent` grows while the body is on its way, `done` is set after it."""

    origin: str
    method: str
    path: str
    query: str
    file: str
    range: Slice | None
    status: int
    authorized: bool
    token_tail: str
    time: float = field(default_factory=time.time)
    sent: int = 0
    done: bool = False


class Log:
    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._entries: list[Entry] = []
        self._lock = threading.Lock()

    def begin(self, request: Request, status: int) -> Entry:
        secret = request.headers.get("Authorization", "")
        entry = Entry(
            request.origin,
            request.method,
            request.path,
            request.query_text,
            request.file,
            request.asked,
            status,
            bool(secret),
            secret[-4:],
        )
        with self._lock:
            self._entries.append(entry)
        return entry

    def end(self, entry: Entry) -> None:
        """Before the last bytes leave, so that the client never knows more than the log."""
        if entry.done:
            return
        entry.done = True
        if self.file is None:
            return
        line = json.dumps(asdict(entry))
        with self._lock, self.file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def requests(
        self, path_contains: str = "", origin: str | None = None, method: str | None = None
    ) -> list[Entry]:
        """In order of arrival; the text may be part of the path or of the file's name."""
        with self._lock:
            entries = list(self._entries)
        return [
            entry
            for entry in entries
            if path_contains in f"{entry.path}\n{entry.file}"
            and origin in (None, entry.origin)
            and method in (None, entry.method)
        ]

    def bytes_sent(self, path_contains: str = "", origin: str | None = None) -> int:
        return sum(entry.sent for entry in self.requests(path_contains, origin))

    def ranges(self, path_contains: str = "") -> list[Slice | None]:
        """Of the GETs that were answered with content: slices, None for the whole file."""
        gets = self.requests(path_contains, method="GET")
        return [entry.range for entry in gets if entry.status in (200, 206)]

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
