"""Requests for bytes: pinned origins, exact ranges, and no token to a foreign host."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import huggingface_hub as hf

from saes import errors
from saes.hub.limits import Limits, retry_after
from saes.hub.network import refuse_downgrade, refuse_inner_host, refuse_inner_peer, tls

CONNECT = 10.0  # seconds
TIMEOUT = httpx2.Timeout(30, connect=CONNECT)
WORKING = 600.0  # seconds in which a POST that writes is answered: a commit may name thousands
MOST_BYTES = 64 * 2**20  # of one answer of the API: a page of 1,000 files has half a MB
STALLED = 20.0  # seconds in which a body's connection brings next to nothing: it is given up
FULL = 507  # a status that says there is no room: it does not pass
NEXT_TO_NOTHING = 20 * 1024  # bytes
AT_ONCE = 2**20  # bytes that are gathered
SOON = 0.2  # seconds for which they are
_thread = threading.local()  # of each thread: the Hub that is being asked, and until when


class Interrupted(Exception):
    """A transfer broke off in a way that asking again may mend."""


class ServerTrouble(Exception):
    """The Hub's API answered 5xx."""

    def __init__(self, status: int) -> None:
        self.status = status


Origin = tuple[str, str]  # scheme, host and port


def origin_of(url: str) -> Origin:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return parts.scheme, f"{parts.hostname}:{port}"


@dataclass(frozen=True)
class Call:
    """What requests of a thread to the API are for. `sends`: files may go to the Hub's store."""

    home: str
    end: float
    limits: Limits
    sends: bool = False

    @property
    def origin(self) -> Origin:
        return origin_of(self.home)


@contextmanager
def asking(home: str, seconds: float, limits: Limits, *, sends: bool = False) -> Iterator[None]:
    """All requests of this thread to the API go to `home`'s origin, and together end in time."""
    _thread.call = Call(home, time.monotonic() + seconds, limits, sends)
    try:
        yield
    finally:
        del _thread.call


def _call() -> Call:
    call: Call = _thread.call
    return call


def _check_time() -> None:
    if time.monotonic() <= _call().end:
        return
    if _call().sends:  # one that was waited for all that time: the client asks again
        raise errors.HubUnreachable("The Hub did not answer in time.")
    raise errors.HubMisbehaved("The Hub's answer does not end.")


def _pin(request: httpx2.Request) -> None:
    """The API client talks to the Hub's own origin only: no page link or redirect leads it off."""
    _check_time()
    call, url = _call(), str(request.url)
    if origin_of(url) != call.origin:
        _refuse_foreign(call, request)
    _refuse_asking(origin_of(url), call.limits)
    _bound(call, request)


def _bound(call: Call, request: httpx2.Request) -> None:
    left = max(0.1, call.end - time.monotonic())
    seconds = dict(request.extensions.get("timeout", {}))
    if call.sends and request.method == "POST":
        # Whoever hangs up on a Hub that commits loses the answer, not the commit.
        seconds["read"] = WORKING
    request.extensions["timeout"] = {name: min(left, it or left) for name, it in seconds.items()}


def _refuse_foreign(call: Call, request: httpx2.Request) -> None:
    """Bytes that are sent lie on another host: its address is the permission, no token goes along.

    Raises HubMisbehaved for everything else.
    """
    if not call.sends or request.method != "PUT":
        raise errors.HubMisbehaved("The Hub pointed to another host for its own answers.")
    refuse_downgrade(str(request.url), call.home)
    refuse_inner_host(str(request.url), call.home)
    request.headers.pop("Authorization", None)


def _refuse_foreign_peer(response: httpx2.Response) -> None:
    if origin_of(str(response.request.url)) != _call().origin:
        refuse_inner_peer(response, _call().home)


def _no_long_sleep(response: httpx2.Response) -> None:
    # huggingface_hub would sleep through Retry-After, however long, and 23 s through 5xx, inside
    # a page view. Those who can wait ask again themselves.
    origin = origin_of(str(response.request.url))
    if response.status_code == 429:
        raise _limited(origin, _call().limits, response)
    # One of many parts of a file that is sent is sent again, not the whole file.
    if response.status_code >= 500 and response.status_code != FULL and origin == _call().origin:
        raise ServerTrouble(response.status_code)


def _read_bounded(response: httpx2.Response) -> None:
    # Read here, piece by piece: packed, a GB of zeros is a MB, and a body may trickle for ever.
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        _check_time()
        if len(body) > MOST_BYTES:
            raise errors.HubMisbehaved("The Hub's answer is too large.")
    response._content = bytes(body)


def _refuse_asking(origin: Origin, limits: Limits) -> None:
    """Answered at once: in offline mode, and while the host is known to limit us."""
    if hf.constants.is_offline_mode():
        raise errors.Offline("miStudio is in offline mode (HF_HUB_OFFLINE).")
    if wait := limits.left(origin[1]):
        raise _rate_limited(origin, wait)


def _limited(origin: Origin, limits: Limits, answer: httpx2.Response) -> errors.RateLimited:
    return _rate_limited(origin, limits.strike(origin[1], retry_after(answer.headers)))


def _rate_limited(origin: Origin, seconds: float) -> errors.RateLimited:
    host = origin[1].rpartition(":")[0]
    return errors.RateLimited(
        f"Rate limit exceeded: {host} asks to wait {max(1, round(seconds))} s.", seconds
    )


def _api_client() -> httpx2.Client:
    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [_pin],
        "response": [_refuse_foreign_peer, _no_long_sleep, _read_bounded],
    }
    return _client(event_hooks=hooks, follow_redirects=True)


def _client(**settings: Any) -> httpx2.Client:
    try:
        return httpx2.Client(timeout=TIMEOUT, verify=tls(), **settings)
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        raise errors.HubUnreachable(
            "The proxy that the environment names cannot be used: it is none of http or https.",
            solution="Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, and start miStudio again.",
        ) from error


hf.set_client_factory(_api_client)
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings print whole URLs
_bodies_lock = threading.Lock()
_bodies: list[httpx2.Client] = []


def _body_client() -> httpx2.Client:
    """For bodies, which lie on other hosts: follows no redirect by itself, carries no token."""
    with _bodies_lock:
        if not _bodies:
            _bodies.append(_client(follow_redirects=False))
        return _bodies[0]


@contextmanager
def ranged(
    url: str, start: int, stop: int, home: str, token: str | None, limits: Limits
) -> Iterator[httpx2.Response]:
    """An answer with exactly the bytes [start, stop) of `url`. Raises Interrupted.

    The token goes along only to the origin of `home`, the Hub that it is for.
    """
    headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    timeout = httpx2.Timeout(STALLED, connect=CONNECT)
    try:
        origin = origin_of(url)
        _refuse_asking(origin, limits)
        refuse_inner_host(url, home)
        if token and origin == origin_of(home):
            headers["Authorization"] = f"Bearer {token}"
        with _body_client().stream("GET", url, headers=headers, timeout=timeout) as answer:
            if answer.status_code == 429:
                raise _limited(origin, limits, answer)
            refuse_inner_peer(answer, home)
            _check_answer(answer, start, stop)
            yield answer
    except httpx2.HTTPError as error:
        raise Interrupted(f"the connection broke ({type(error).__name__})") from error
    except (httpx2.InvalidURL, ValueError) as error:
        raise errors.HubMisbehaved("The Hub gave no usable address for the file.") from error


def _check_answer(answer: httpx2.Response, start: int, stop: int) -> None:
    if answer.status_code >= 400:
        raise Interrupted(f"the file's host answered {answer.status_code}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise errors.HubMisbehaved("The file's host compresses what must come as it is.")
    got = answer.headers.get("content-range", "")
    if answer.status_code != 206 or not got.startswith(f"bytes {start}-{stop - 1}/"):
        raise errors.HubMisbehaved("The file's host does not serve the part that was asked for.")


def hang_up(answer: httpx2.Response) -> None:
    """End an answer that another thread waits for: it is Interrupted there at once."""
    stream = answer.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream else None
    if connection is not None:
        with suppress(OSError):  # it has ended already
            # Not the socket's own: with TLS that would make the other thread read raw bytes.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


def exact(answer: httpx2.Response, size: int) -> Iterator[bytes]:
    """The body in chunks: never more than `size` bytes, whatever the host sends."""
    left, few, since = size, 0, time.monotonic()
    for chunk in answer.iter_raw():
        if len(chunk) > left:
            raise errors.HubMisbehaved("The file's host sends more than was asked for.")
        left, few, now = left - len(chunk), few + len(chunk), time.monotonic()
        yield chunk
        if few >= NEXT_TO_NOTHING:
            few, since = 0, now
        elif left and now - since > STALLED:
            raise Interrupted("the connection brings next to nothing")
    if left:
        raise Interrupted("the connection ended early")


def gathered(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Fewer and larger chunks, for each is written to disk by itself; soon, where few bytes come.

    What came before a failure is given first.
    """
    held, since = bytearray(), time.monotonic()
    try:
        for chunk in chunks:
            held += chunk
            if len(held) >= AT_ONCE or time.monotonic() - since >= SOON:
                yield bytes(held)
                held.clear()
                since = time.monotonic()
    except (Interrupted, httpx2.HTTPError):
        yield bytes(held)
        raise
    if held:
        yield bytes(held)
