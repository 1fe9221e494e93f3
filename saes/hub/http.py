"""Requests for bytes: pinned origins, exact ranges, and no token to a foreign host."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import huggingface_hub as hf

from saes import errors

TIMEOUT = httpx2.Timeout(30, connect=10)
MOST_BYTES = 64 * 2**20  # of one answer of the API: a page of 1,000 files has half a MB
_call = threading.local()  # of each thread: the Hub that is being asked, and until when


class Interrupted(Exception):
    """A transfer broke off in a way that asking again may mend."""


class ServerTrouble(Exception):
    """The Hub's API answered 5xx."""

    def __init__(self, status: int) -> None:
        self.status = status


class TooManyRequests(Exception):
    """The Hub's API answered 429."""

    def __init__(self, retry_after: float | None) -> None:
        self.retry_after = retry_after


def origin_of(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return parts.scheme, f"{parts.hostname}:{port}"


@contextmanager
def asking(home: str, seconds: float) -> Iterator[None]:
    """All requests of this thread to the API go to `home`'s origin, and together end in time."""
    _call.origin, _call.end = origin_of(home), time.monotonic() + seconds
    try:
        yield
    finally:
        del _call.origin, _call.end


def _check_time() -> None:
    if time.monotonic() > _call.end:
        raise errors.HubMisbehaved("The Hub's answer does not end.")


def _pin(request: httpx2.Request) -> None:
    """The API client talks to the Hub's own origin only: no page link or redirect leads it off."""
    _check_time()
    if origin_of(str(request.url)) != _call.origin:
        raise errors.HubMisbehaved("The Hub pointed to another host for its own listing.")
    left = max(0.1, _call.end - time.monotonic())
    seconds = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {name: min(left, it or left) for name, it in seconds.items()}


def _no_long_sleep(response: httpx2.Response) -> None:
    # huggingface_hub would sleep through Retry-After, however long, and 23 s through 5xx, inside
    # a page view. Those who can wait ask again themselves.
    if response.status_code == 429:
        raise TooManyRequests(retry_after(response.headers))
    if response.status_code >= 500:
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


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a 429 asks to wait; None where it does not say so in numbers."""
    value = headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdigit() else None


def _api_client() -> httpx2.Client:
    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [_pin],
        "response": [_no_long_sleep, _read_bounded],
    }
    return httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=TIMEOUT)


hf.set_client_factory(_api_client)
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings print whole URLs
_bodies_lock = threading.Lock()
_bodies: list[httpx2.Client] = []


def _body_client() -> httpx2.Client:
    """For bodies, which lie on other hosts: follows no redirect by itself, carries no token."""
    with _bodies_lock:
        if not _bodies:
            _bodies.append(httpx2.Client(timeout=TIMEOUT, follow_redirects=False))
        return _bodies[0]


@contextmanager
def ranged(
    url: str, start: int, stop: int, home: str, token: str | None
) -> Iterator[httpx2.Response]:
    """An answer with exactly the bytes [start, stop) of `url`. Raises Interrupted.

    The token goes along only to the origin of `home`, the Hub that it is for.
    """
    headers = {"Range": f"bytes={start}-{stop - 1}"}
    if token and origin_of(url) == origin_of(home):
        headers["Authorization"] = f"Bearer {token}"
    headers["Accept-Encoding"] = "identity"
    try:
        with _body_client().stream("GET", url, headers=headers) as answer:
            _check_answer(answer, start, stop)
            yield answer
    except httpx2.HTTPError as error:
        raise Interrupted(f"the connection broke ({type(error).__name__})") from error
    except (httpx2.InvalidURL, ValueError) as error:
        raise errors.HubMisbehaved("The Hub gave no usable address for the file.") from error


def _check_answer(answer: httpx2.Response, start: int, stop: int) -> None:
    if answer.status_code == 429:
        raise rate_limited(retry_after(answer.headers))
    if answer.status_code >= 400:
        raise Interrupted(f"the file's host answered {answer.status_code}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise errors.HubMisbehaved("The file's host compresses what must come as it is.")
    got = answer.headers.get("content-range", "")
    if answer.status_code != 206 or not got.startswith(f"bytes {start}-{stop - 1}/"):
        raise errors.HubMisbehaved("The file's host does not serve the part that was asked for.")


def exact(answer: httpx2.Response, size: int) -> Iterator[bytes]:
    """The body in chunks: never more than `size` bytes, whatever the host sends."""
    left = size
    for chunk in answer.iter_raw():
        if len(chunk) > left:
            raise errors.HubMisbehaved("The file's host sends more than was asked for.")
        left -= len(chunk)
        yield chunk
    if left:
        raise Interrupted("the connection ended early")


def rate_limited(seconds: float | None) -> errors.RateLimited:
    wait = f"; it asks to wait {seconds:.0f} s" if seconds else ""
    return errors.RateLimited(f"Rate limit exceeded: too many requests to the Hub{wait}.", seconds)
