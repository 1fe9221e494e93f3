"""What must hold before anything starts: one supervisor per data directory, and a free port."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotStart(Exception):
    """Why miStudio does not start or go on, as a sentence for the user."""


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data directory. The kernel gives it back when this process ends, however it ends."""
    path = data_dir / "run" / "supervisor.lock"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotStart(_taken(path, data_dir)) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _taken(lock: Path, data_dir: Path) -> str:
    pid = lock.read_text(encoding="ascii").strip() or "unknown"
    return (
        f"miStudio already runs on {data_dir} (process {pid}). "
        "Stop that one first, or set MISTUDIO_DATA_DIR to another folder."
    )


def check_port(host: str, port: int) -> None:
    """Refuse an address that the web process could not listen on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the web process does: a port in TIME_WAIT is free, one that is listened on is not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        raise CannotStart(_unusable(host, port, error)) from error


def _unusable(host: str, port: int, error: OSError | UnicodeError) -> str:
    code = None if isinstance(error, UnicodeError | socket.gaierror) else error.errno
    if code == errno.EADDRINUSE:
        return (
            f"MISTUDIO_PORT: port {port} is taken by another program. "
            "Stop that one, or set MISTUDIO_PORT (or --port) to another number."
        )
    if code == errno.EACCES:
        return f"MISTUDIO_PORT: port {port} needs more rights. Choose one above 1023."
    return f"MISTUDIO_HOST: {host!r} is not an address of this machine."
