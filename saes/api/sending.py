"""Content as an HTTP answer: whole or a part of it, never more than a few pieces in memory."""

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from saes.api.middleware import problem
from saes.contents import Content
from saes.errors import BadRange

RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


def send(request: HttpRequest, content: Content) -> HttpResponseBase:
    """All of it, or the one part that Range asks for. The answer closes `content`."""
    try:
        part = _part(request, content)
    except BadRange as error:
        content.close()
        refused = problem(error)
        refused["Content-Range"] = f"bytes */{content.size}"
        return refused
    start, stop = part or (0, content.size)
    answer = _body(request, content, start, stop)
    if part:
        answer.status_code = 206
        answer["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    for name, value in _headers(content, stop - start).items():
        answer[name] = value
    return answer


def _body(request: HttpRequest, content: Content, start: int, stop: int) -> HttpResponseBase:
    if request.method == "HEAD":
        content.close()
        return HttpResponse()
    return StreamingHttpResponse(Stream(content, start, stop))


def _headers(content: Content, length: int) -> dict[str, str]:
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", content.name)
    known_as = f'attachment; filename="{plain}"'
    if plain != content.name:
        known_as += f"; filename*=UTF-8''{quote(content.name, safe='')}"
    return {
        "Content-Type": content.media_type,
        "Content-Length": str(length),
        "Content-Disposition": known_as,
        "Accept-Ranges": "bytes",
        "ETag": content.etag,
        # Who may read it is asked anew each time; and bytes that change underway fit no ETag.
        "Cache-Control": "private, no-cache, no-transform",
        "X-Content-Type-Options": "nosniff",
    }


def _part(request: HttpRequest, content: Content) -> tuple[int, int] | None:
    """The first byte and the one behind the last, or None for everything. Raises BadRange.

    What is not one plain range of bytes may be ignored, and so is a part of what has changed.
    """
    asked = RANGE.fullmatch(request.headers.get("Range", ""))
    same = request.headers.get("If-Range", content.etag) == content.etag
    if asked is None or not same or request.method != "GET" or not any(asked.groups()):
        return None
    first, last = (int(it) if it else None for it in asked.groups())
    if first is None:
        start, stop = max(0, content.size - (last or 0)), content.size
    else:
        if last is not None and last < first:
            return None
        start, stop = first, content.size if last is None else min(last + 1, content.size)
    if start >= stop:
        raise BadRange(f"There are {content.size:,} bytes.")
    return start, stop


class Stream:
    """Pieces read by a thread, one at a time: the next one when the last one was sent."""

    def __init__(self, content: Content, start: int, stop: int) -> None:
        self._pieces = content.pieces(start, stop)
        self.close = content.close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while (piece := await asyncio.to_thread(next, self._pieces, None)) == b"":
            continue  # on its way to the first byte that was asked for
        if piece is None:
            raise StopAsyncIteration
        return piece
