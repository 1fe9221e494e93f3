"""A small proxy on this machine, for plain HTTP and for CONNECT; it notes what it was asked for."""

import select
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Use as a context manager. `names`: URLs of the hosts that it alone knows."""

    def __init__(self, **names: str) -> None:
        self.names = {f"{name}.example": urlsplit(url).netloc for name, url in names.items()}
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._listener.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            with suppress(OSError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=[client], daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            line, _, rest = head.partition(b"\r\n")
            method, target, _ = line.decode().split(" ")
            self.asked.append(f"{method} {target}")
            place = target if method == "CONNECT" else urlsplit(target).netloc
            with self._connected(place) as server:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:  # one request for each connection
                    path = target.partition(place)[2] or "/"
                    closing = rest.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
                    server.sendall(f"{method} {path} HTTP/1.1\r\n".encode() + closing)
                self._both_ways(client, server)

    def _connected(self, place: str) -> socket.socket:
        known = self.names.get(place.partition(":")[0], place)
        host, _, port = known.rpartition(":")
        return socket.create_connection((host, int(port)), 5)

    def _both_ways(self, one: socket.socket, other: socket.socket) -> None:
        while not self._over.is_set():
            for side in select.select([one, other], [], [], 0.05)[0]:
                piece = side.recv(65536)
                if not piece:
                    return
                (other if side is one else one).sendall(piece)
