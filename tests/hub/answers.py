"""A request as it was read and an answer before it is sent; faults change answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.blobs import Blob, Stretch

RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
MOST = 1 << 16  # bytes of a request's body that are read at once
Slice = tuple[int | None, int | None]


class Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Body:
    """The body of a request, which ends where Content-Length says."""

    def __init__(self, file: Reader, length: int) -> None:
        self.file, self.left, self.got = file, length, 0
        # Asked before so many bytes more are read: makes slow, or ends the connection.
        self.toll: Callable[[int, int], None] = lambda got, size: None

    def read(self, size: int | None = None) -> bytes:
        wanted = self.left if size is None else min(size, self.left)
        pieces = []
        for at in range(0, wanted, MOST):
            self.toll(self.got, min(MOST, wanted - at))
            pieces.append(self.file.read(min(MOST, wanted - at)))
            self.left -= len(pieces[-1])
            self.got += len(pieces[-1])
            if not pieces[-1]:
                raise ConnectionAbortedError("the body ended early")
        return b"".join(pieces)


@dataclass
class Request:
    origin: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: Body
    number: int = 0
    scheme: str = "http"
    # "owner/name/path/in/repo", filled in once the route knows it.
    file: str = ""
    # How the request's own body travels.
    delivery: Delivery = field(default_factory=lambda: Delivery())

    @property
    def base(self) -> str:
        return f"{self.scheme}://{self.headers.get('Host')}"

    @property
    def raw_path(self) -> str:
        return urlsplit(self.target).path

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def query_text(self) -> str:
        return urlsplit(self.target).query

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_text, keep_blank_values=True)

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in ("true", "1")

    @property
    def token(self) -> str | None:
        words = self.headers.get("Authorization", "").split(None, 1)
        return words[1].strip() if len(words) == 2 and words[0].lower() == "bearer" else None

    @property
    def asked(self) -> Slice | None:
        """The Range header as a Python slice: stop is exclusive, (-n, None) is the last n."""
        found = RANGE.fullmatch(self.headers.get("Range", ""))
        if not found or found[0] == "bytes=-":
            return None
        first, last = found.groups()
        if not first:
            return (-int(last), None)
        if last and int(last) < int(first):
            return None
        return (int(first), int(last) + 1 if last else None)

    def about(self, text: str) -> bool:
        return text in self.path or text in self.file or text in self.target


@dataclass
class Delivery:
    """How the bytes travel: what happens after how many of them, and how fast."""

    speed: float | None = None
    # (after n bytes, "cut" or "reset" or seconds to stand still)
    events: list[tuple[int, str | float]] = field(default_factory=list)
    lost: bool = False  # not even the head is sent
    late: float = 0.0  # seconds until the head is


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Iterable[bytes | Stretch] = ()
    length: int | None = 0  # None: chunked
    start: int = 0  # where in the file the body begins
    blob: Blob | None = None
    declared: int | None = None  # a false Content-Length
    delivery: Delivery = field(default_factory=Delivery)

    def set(self, name: str, value: str | None) -> None:
        """Replaces a header whatever its case; None removes it."""
        for known in [known for known in self.headers if known.lower() == name.lower()]:
            del self.headers[known]
        if value is not None:
            self.headers[name] = value


class Refusal(Exception):
    """Ends a request with an error answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def plain(
    content: bytes, kind: str = "text/plain; charset=utf-8", status: int = 200, **headers: str
) -> Answer:
    named = {"Content-Type": kind} | {k.replace("_", "-"): v for k, v in headers.items()}
    return Answer(status, named, [content], len(content))


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    text = json.dumps(value, separators=(",", ":")).encode()
    return plain(text, "application/json; charset=utf-8", status, **headers)


def serve(blob: Blob, request: Request, headers: Mapping[str, str]) -> Answer:
    """The file, or the part of it that is asked for."""
    named = {"Accept-Ranges": "bytes", **headers}
    etag = named["ETag"]
    if request.headers.get("If-None-Match") == etag:
        return Answer(304, named)
    if request.headers.get("If-Match", etag) not in (etag, "*"):
        return Answer(412, named)
    asked = request.asked if request.method == "GET" else None
    if asked is None or request.headers.get("If-Range", etag) != etag:
        return whole(blob, named)
    return part(blob, named, asked)


def whole(blob: Blob, headers: Mapping[str, str]) -> Answer:
    return Answer(200, dict(headers), blob.to_send(), blob.size, blob=blob)


def part(blob: Blob, headers: Mapping[str, str], asked: Slice) -> Answer:
    start, stop, _ = slice(*asked).indices(blob.size)
    if start >= stop:
        return Answer(416, {**headers, "Content-Range": f"bytes */{blob.size}"}, blob=blob)
    named = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{blob.size}"}
    return Answer(206, named, blob.to_send(start, stop), stop - start, start, blob)
