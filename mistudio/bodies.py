"""Bodies of requests: how large they may be, and read from where the server has put them.

Daphne would hold a body whole in memory, and Django would copy it, before anybody asks whether the
sender may send one at all.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, ClassVar

from daphne.http_protocol import HTTPFactory, WebRequest
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.db import DatabaseError, connections
from twisted.internet.threads import deferToThread

from saes.storage import MARGIN

log = logging.getLogger(__name__)
MOST = 16 << 20  # bytes of any body but that of the form which sends files
SMALL = 100_000  # bytes that stay in memory
LOOK_EVERY = 4 << 20  # bytes of a form, until it is asked again whether the disk has room
TOO_LARGE = (413, b"Content Too Large", "This is more than the server takes at once.")
NO_ROOM = (507, b"Insufficient Storage", "The disk has no room for this. Free some, or send less.")
BODY = "mistudio.body"  # in the scope: the file with the body
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Request(WebRequest):  # type: ignore[misc]  # ships no types
    """One whose body is refused before it takes the disk. It is read, so that the sender hears."""

    content: IO[bytes]
    forms: ClassVar[set["Request"]] = set()  # those that send files now, each with room set aside
    promised: ClassVar[int] = 0  # bytes that jobs and other uploads were going to write, last known

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Twisted's own parser of forms takes fourteen times the body, in memory.
        super().__init__(*args, **{**kwargs, "parsePOSTFormSubmission": False})

    def gotLength(self, length: int | None) -> None:
        self._count, self._length, self._next_look = 0, length or 0, LOOK_EVERY
        self._folder: Path | None = None
        self._refusal: tuple[int, bytes, str] | None = None
        if length is not None and length < SMALL:
            self.content = BytesIO()
            return
        self._folder = _folder_of_form(self.channel._path.decode("latin1"))
        self.content = _unnamed(self._folder)
        if self._folder:
            self.forms.add(self)
            self.notifyFinish().addBoth(lambda ended: self.forms.discard(self))
            self._look()
        elif self._length > MOST:
            self._refuse(TOO_LARGE)

    @property
    def needs(self) -> int:
        """Bytes still to be written: the rest of the body, and the files that are parsed of it."""
        return 2 * max(self._length, self._count) - self._count

    def handleContentChunk(self, data: bytes) -> None:
        self._count += len(data)
        if self._folder is None and self._count > MOST:
            self._refuse(TOO_LARGE)
        elif self._folder and self._count >= self._next_look:
            self._look()
        if not self._refusal:
            self.content.write(data)

    def _look(self) -> None:
        """At the disk now; what the database tells comes from a thread, so that nobody waits."""
        self._next_look = self._count + LOOK_EVERY
        self._refuse_too_much()
        if not self._refusal:
            deferToThread(_promised).addCallbacks(self._learn, _not_told)

    def _learn(self, promised: int) -> None:
        Request.promised = promised
        self._refuse_too_much()

    def _refuse_too_much(self) -> None:
        needed = sum(form.needs for form in self.forms)
        if self in self.forms and needed + Request.promised + MARGIN > _free(self._folder):
            self._refuse(NO_ROOM)

    def _refuse(self, why: tuple[int, bytes, str]) -> None:
        """What came of it goes from the disk at once."""
        self._refusal = self._refusal or why
        self.forms.discard(self)
        self.content.close()
        self.content = BytesIO()

    def process(self) -> Any:
        if not self._refusal:
            return super().process()
        self.request_start = time.time()
        self.basic_error(*self._refusal)
        return None


def _unnamed(folder: Path | None) -> IO[bytes]:
    """Gone with the process, however that ends."""
    return tempfile.TemporaryFile(dir=folder)


def _folder_of_form(path: str) -> Path | None:
    """Where the body of the form that sends files lies: it may be large. None for all others."""
    from saes import uploads
    from saes.views.sent import is_form

    with suppress(OSError):
        return uploads.coming() if is_form(path) else None
    return None


def _free(folder: Path | None) -> int:
    try:
        return shutil.disk_usage(folder or "").free
    except OSError:
        return 0


def _promised() -> int:
    from saes import room, uploads

    try:
        return room.promised() + uploads.still_coming()
    finally:
        connections.close_all()  # those of this thread


def _not_told(failure: Any) -> None:
    failure.trap(DatabaseError, OSError)
    log.warning("what other uploads and jobs need could not be looked for")


class Requests(HTTPFactory):  # type: ignore[misc]
    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = Request
        return protocol


def hand_over(request: Any, scope: Message) -> None:
    """The application reads the body from its file; the server's own copies of it are empty."""
    scope[BODY], request.content = request.content, BytesIO()


class Taking:
    """What an application receives, beside the body that is here already."""

    def __init__(self, receive: Receive, body: IO[bytes] | None) -> None:
        self.receive, self.body = receive, body

    async def __call__(self) -> Message:
        return await self.receive()


class Pages(ASGIHandler):
    """Django's own, but for bodies that are on the disk: those are not copied."""

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        await super().handle(scope, Taking(receive, scope.pop(BODY, None)), send)

    async def read_body(self, receive: Any) -> IO[bytes]:
        if receive.body is None:
            copied: IO[bytes] = await super().read_body(receive)
            return copied
        message = await receive()
        if message["type"] == "http.disconnect":
            receive.body.close()
            raise RequestAborted
        body: IO[bytes] = receive.body
        body.seek(0)
        return body
