"""Things that go wrong: each action changes an answer, or how it travels."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.hub.answers import Answer, Request, plain, whole
from tests.hub.blobs import Stretch
from tests.hub.content import EXPIRED

Test = Callable[[Request, Answer], bool]
LOGIN = b"<!doctype html><title>Sign in</title><form>Please sign in to the network.</form>"


@dataclass(frozen=True)
class Action:
    """`fits` keeps a fault from being used up by answers that it would not change."""

    change: Callable[[Request, Answer], Answer]
    fits: Test = lambda request, answer: True
    # Done before the hub does what it is asked for; then there is no true answer yet.
    early: bool = False


@dataclass
class Fault:
    match: str | Callable[[Request], bool]
    action: Action
    where: str | None
    method: str | None
    times: int | None
    skip: int
    hits: int = 0

    def meets(self, request: Request, answer: Answer) -> bool:
        if self.where not in (None, request.origin) or self.method not in (None, request.method):
            return False
        named = request.about(self.match) if isinstance(self.match, str) else self.match(request)
        return named and self.action.fits(request, answer)

    def due(self) -> bool:
        """Counts one more meeting, and says whether this one goes wrong."""
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self,
        match: str | Callable[[Request], bool],
        action: Action,
        *,
        where: str | None = None,
        method: str | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> Fault:
        """For the next `times` answers that match after `skip` of them; None is for ever."""
        fault = Fault(match, action, where, method, times, skip)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def before(self, request: Request) -> Answer | None:
        """An answer in the place of the work that is asked for, if one is ordered."""
        nothing = Answer()
        made = self._act(request, nothing, early=True)
        return None if made is nothing else made

    def apply(self, request: Request, answer: Answer) -> Answer:
        return self._act(request, answer, early=False)

    def _act(self, request: Request, answer: Answer, *, early: bool) -> Answer:
        with self._lock:
            fitting = [f for f in self._faults if f.action.early == early]
            due = [f.action for f in fitting if f.meets(request, answer) and f.due()]
        for action in due:
            answer = action.change(request, answer)
        return answer


def _has_body(request: Request, answer: Answer) -> bool:
    return request.method == "GET" and answer.status in (200, 206)


def _is_part(request: Request, answer: Answer) -> bool:
    return answer.status == 206


def _event(after: int, what: str | float) -> Action:
    def change(request: Request, answer: Answer) -> Answer:
        answer.delivery.events.append((after, what))
        return answer

    return Action(change, _has_body)


def cut(after: int) -> Action:
    """The connection is closed properly after so many bytes of the body."""
    return _event(after, "cut")


def reset(after: int) -> Action:
    """The connection is reset (RST) after so many bytes of the body."""
    return _event(after, "reset")


def stall(after: int, seconds: float) -> Action:
    """Nothing is sent for some time after so many bytes; then the rest follows."""
    return _event(after, float(seconds))


def slow(bytes_per_second: float) -> Action:
    def change(request: Request, answer: Answer) -> Answer:
        answer.delivery.speed = bytes_per_second
        return answer

    return Action(change, _has_body)


def status(code: int, headers: Mapping[str, str] | None = None, text: str = "") -> Action:
    def change(request: Request, answer: Answer) -> Answer:
        made = plain(text.encode(), status=code)
        made.headers |= dict(headers or {})
        return made

    return Action(change)


def headers(changes: Mapping[str, str | None]) -> Action:
    """Sets headers of the true answer; None removes one."""

    def change(request: Request, answer: Answer) -> Answer:
        for name, value in changes.items():
            answer.set(name, value)
        return answer

    return Action(change)


def changed_etag(etag: str) -> Action:
    """Another ETag on everything that carries one, as if the file had been replaced."""

    def change(request: Request, answer: Answer) -> Answer:
        for name in {"ETag", "X-Linked-Etag"} & set(answer.headers):
            answer.headers[name] = f'"{etag}"'
        return answer

    return Action(change, lambda request, answer: "tag" in "".join(answer.headers).lower())


def corrupt(offset: int) -> Action:
    """One byte of the file is flipped, if this body holds it."""

    def change(request: Request, answer: Answer) -> Answer:
        answer.body = _flipped(answer.body, offset - answer.start)
        return answer

    def fits(request: Request, answer: Answer) -> bool:
        inside = answer.start <= offset < answer.start + (answer.length or 0)
        return inside and _has_body(request, answer)

    return Action(change, fits)


def _flipped(body: Iterable[bytes | Stretch], at: int) -> Iterator[bytes]:
    for piece in map(bytes, body):
        if 0 <= at < len(piece):
            yield piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]
        else:
            yield piece
        at -= len(piece)


def ignore_range() -> Action:
    """A range is asked for and the whole file comes, with status 200."""

    def change(request: Request, answer: Answer) -> Answer:
        if answer.blob is None:
            return answer
        answer.set("Content-Range", None)
        made = whole(answer.blob, answer.headers)
        made.delivery = answer.delivery
        return made

    return Action(change, _is_part)


def wrong_content_range(value: str | None = None) -> Action:
    """206 with another Content-Range (or `value`) around the bytes that were asked for."""

    def change(request: Request, answer: Answer) -> Answer:
        size = answer.blob.size if answer.blob else 0
        answer.headers["Content-Range"] = value or f"bytes 0-{(answer.length or 1) - 1}/{size}"
        return answer

    return Action(change, _is_part)


def wrong_length(declared: int) -> Action:
    """A Content-Length that is not the body's; the connection ends after the body."""

    def change(request: Request, answer: Answer) -> Answer:
        answer.declared = declared
        return answer

    return Action(change, _has_body)


def html_login_page() -> Action:
    return Action(lambda request, answer: plain(LOGIN, "text/html; charset=utf-8"))


def expired_url() -> Action:
    """What the CDN says when the signed address is too old."""
    return Action(lambda request, answer: plain(EXPIRED, "application/xml", 403))


def gzipped() -> Action:
    """The true body, compressed on the way and without a Content-Length, as for texts."""

    def change(request: Request, answer: Answer) -> Answer:
        answer.body, answer.length = _gzip(answer.body), None
        answer.set("Content-Encoding", "gzip")
        return answer

    return Action(change, lambda request, answer: answer.status == 200 and bool(answer.length))


def gzip_bomb(size: int, declared: int | None = None) -> Action:
    """`size` zeros, a thousand times smaller on the wire; `declared` is its Content-Length."""

    def change(request: Request, answer: Answer) -> Answer:
        zeros = (bytes(min(1 << 20, size - at)) for at in range(0, size, 1 << 20))
        answer.body, answer.length, answer.declared = _gzip(zeros), None, declared
        answer.set("Content-Encoding", "gzip")
        return answer

    return Action(change, _has_body)


def _gzip(body: Iterable[bytes | Stretch]) -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    for piece in map(bytes, body):
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def endless() -> Action:
    """A body without an end and without a Content-Length."""

    def change(request: Request, answer: Answer) -> Answer:
        answer.body, answer.length = iter(lambda: bytes(1 << 16), b""), None
        return answer

    return Action(change, _has_body)


def next_page(url: str | None = None) -> Action:
    """The Link to the next page leads back to this one, or to `url`."""

    def change(request: Request, answer: Answer) -> Answer:
        target = url or request.base + request.target
        answer.headers["Link"] = f'<{target}>; rel="next"'
        return answer

    return Action(change)


def redirect(url: str, code: int = 302) -> Action:
    """Sends the client elsewhere; `{target}` in the url stands for path and query."""

    def change(request: Request, answer: Answer) -> Answer:
        made = plain(b"Redirecting", status=code)
        kept = {name: value for name, value in answer.headers.items() if name.startswith("X-")}
        made.headers |= kept | {"Location": url.replace("{target}", request.target)}
        return made

    return Action(change)
