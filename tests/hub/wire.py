"""Sockets: reads requests, sends answers, and lets the connection suffer what is ordered."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.hub.answers import Answer, Body, Refusal, Request
from tests.hub.blobs import Stretch
from tests.hub.link import Link
from tests.hub.log import Entry
from tests.hub.routes import Route, answer

if TYPE_CHECKING:
    from tests.hub.server import LocalHub

NUMBERS = count(1)
LARGEST = 1 << 20  # bytes that are sent at once


class Gone(Exception):
    """The connection ends here, on purpose."""


class Origin(ThreadingHTTPServer):
    """One of the two servers; `name` is "hub" or "cdn"."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self, hub: LocalHub, name: str, port: int, table: list[Route], link: Link | None = None
    ) -> None:
        self.hub, self.name, self.table, self.link = hub, name, table, link
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)
        poll = {"poll_interval": 0.01}
        self.thread = threading.Thread(target=self.serve_forever, kwargs=poll, name=name)

    def get_request(self) -> tuple[socket.socket, Any]:
        """With TLS the handshake is left to the connection's own thread."""
        connection, address = super().get_request()
        if tls := self.hub.tls:
            connection = tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.lock:
            self.open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go when they like; anything else is a mistake of the hub's."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.hub.crashes.append(error)
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        with self.lock:
            for connection in self.open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        deadline = time.monotonic() + 0.5
        while self.open and time.monotonic() < deadline:
            time.sleep(0.005)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Origin

    def handle(self) -> None:
        with suppress(ConnectionError, Gone):
            super().handle()

    def reply(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = Body(self.rfile, length)
        headers: Any = self.headers
        name, number, scheme = self.server.name, next(NUMBERS), self.server.hub.scheme
        request = Request(name, self.command, self.path, headers, body, number, scheme)
        try:
            made = self.server.hub.faults.before(request) or self.work(request)
        except Refusal as refusal:
            made = refusal.answer
        made = self.server.hub.faults.apply(request, made)
        entry = self.server.hub.log.begin(request, made.status)
        try:
            body.read()
            if made.delivery.lost:
                self.close_connection = True
                raise Gone
            if made.delivery.late:
                self.wait(made.delivery.late)
            with_body = request.method != "HEAD" and made.length != 0
            if not with_body:
                self.server.hub.log.end(entry)
            self.send_head(made, request)
            if with_body:
                self.send_body(made, entry)
        finally:
            self.server.hub.log.end(entry)

    def work(self, request: Request) -> Answer:
        events = sorted(request.delivery.events, key=lambda event: event[0])
        speed = request.delivery.speed
        if request.method == "PUT":
            speed = speed or self.server.hub.bytes_per_second

        def toll(got: int, size: int) -> None:
            self.happen(events, got)
            if speed:
                self.wait(size / speed)

        request.body.toll = toll
        return answer(self.server.hub, self.server.table, request)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = reply

    def send_head(self, made: Answer, request: Request) -> None:
        length = made.declared if made.declared is not None else made.length
        if made.declared is not None:
            made.headers["Connection"] = "close"
        self.send_response(made.status)
        for name, value in made.headers.items():
            self.send_header(name, value)
        self.send_header("X-Request-Id", f"Root=1-{request.number:08x}")
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_body(self, made: Answer, entry: Entry) -> None:
        chunked = made.length is None and made.declared is None
        for part in self.paced(made):
            entry.sent += len(part)
            if entry.sent == made.length:
                self.server.hub.log.end(entry)
            self.send(b"%x\r\n%b\r\n" % (len(part), bytes(part)) if chunked else part)
        if chunked:
            self.server.hub.log.end(entry)
            self.wfile.write(b"0\r\n\r\n")
        elif entry.sent != made.length:
            raise Gone  # less than was promised: only an end tells the client

    def send(self, part: bytes | Stretch) -> None:
        if isinstance(part, bytes):
            self.wfile.write(part)
            return
        with part.path.open("rb") as file:
            if self.connection.sendfile(file, part.start, len(part)) < len(part):
                raise Gone  # the file is shorter than it was

    def paced(self, made: Answer) -> Iterator[bytes | Stretch]:
        """The body in parts, as slowly and only as far as is ordered."""
        events = sorted(made.delivery.events, key=lambda event: event[0])
        speed = made.delivery.speed or self.server.hub.bytes_per_second
        step, sent = self.step(speed), 0
        for piece in made.body:
            at = 0
            while at < len(piece):
                self.happen(events, sent)
                room = min(step, events[0][0] - sent) if events else step
                part = piece[at : at + room]
                self.slow_down(len(part), speed)
                yield part
                at, sent = at + len(part), sent + len(part)
        self.happen(events, sent)

    def step(self, speed: float | None) -> int:
        """How many bytes leave at once: few where they are slow, so that they come evenly."""
        link = self.server.link
        steps = (LARGEST, int(speed / 20) if speed else LARGEST, link.step if link else LARGEST)
        return max(1, min(steps))

    def slow_down(self, size: int, speed: float | None) -> None:
        if speed:
            self.wait(size / speed)
        if link := self.server.link:
            self.wait(link.book(size))

    def happen(self, events: list[tuple[int, str | float]], sent: int) -> None:
        while events and events[0][0] <= sent:
            what = events.pop(0)[1]
            if isinstance(what, float):
                self.wait(what)
                continue
            if what == "reset":
                self.reset()
            self.close_connection = True
            raise Gone

    def wait(self, seconds: float) -> None:
        if self.server.hub.stopping.wait(seconds):
            raise Gone

    def reset(self) -> None:
        """RST instead of FIN, once the client's side has what was sent."""
        time.sleep(0.05)
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        socket.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:
        """The hub has its own log."""
