"""The real product for tests: `manage.py start` as a process, on a data directory of its own."""

import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import psutil
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from mistudio.places import redis_socket

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"mistudio.web": "web", "sae_worker": "worker"}


# Below those that the system gives to whoever asks for any: between the look and the start of an
# app, a connection of another test would take the port.
PORTS = itertools.cycle(random.sample(range(10_000, 30_000), 20_000))


def free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is always a next one")


def clean_environment(data_dir: Path, **variables: str) -> dict[str, str]:
    """This process's environment without anything that speaks to miStudio, plus `variables`."""
    ours = ("MISTUDIO_", "HF_", "HUGGING_FACE_", "DJANGO_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    nowhere = "http://127.0.0.1:9"
    return {**kept, "HF_ENDPOINT": nowhere, "MISTUDIO_DATA_DIR": str(data_dir), **variables}


def manage(*arguments: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run another command to its end."""
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def wait_for(what: Callable[[], object], seconds: float = 120.0) -> None:
    """The limit only says that it will never come: machines differ, and others work beside it."""
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, f"not within {seconds} seconds"
        time.sleep(0.02)


@dataclass
class App:
    """`manage.py start`, from its start to its end."""

    data_dir: Path
    port: int
    env: dict[str, str]
    arguments: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)

    def start(self) -> "App":
        command = [sys.executable, str(ROOT / "manage.py"), "start", *self.arguments]
        self.process = subprocess.Popen(
            command,
            env=self.env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            for line in pipe:
                self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_until_ready(self, seconds: float = 120.0) -> "App":
        wait_for(lambda: self._sign_in() or self.process.poll() is not None, seconds)
        assert self._sign_in(), self.output
        return self

    def _sign_in(self) -> str:
        found = re.search(r"^Sign in: (\S+)$", self.output, re.MULTILINE)
        return found.group(1) if found else ""

    @property
    def sign_in_url(self) -> str:
        """Signs in once; `new_sign_in_url` makes another."""
        return self._sign_in()

    def new_sign_in_url(self, *user: str) -> str:
        done = manage("sign_in_link", *user, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, seconds: float = 60.0) -> str:
        with urlopen(self.url + path, timeout=seconds) as answer:
            return str(answer.read().decode())

    def is_healthy(self) -> bool:
        try:
            return self.get("/healthz", seconds=20) == "ok"
        except OSError:
            return False

    def parts(self, kind: str) -> list[psutil.Process]:
        """The running children of one kind: redis, web or worker."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if _kind(child) == kind]

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def horses(self) -> list[psutil.Process]:
        """The processes that are at a job."""
        return [horse for worker in self.parts("worker") for horse in worker.children()]

    def kill(self) -> None:
        """As a crash would: nothing is told to the children."""
        self.process.kill()
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit code, once it has ended and `lines` are complete."""
        code = self.process.wait(timeout=seconds)
        self._reader.join(timeout=60)
        return code


def queue_of(app: App) -> Queue:
    connection = Redis(unix_socket_path=str(redis_socket(app.data_dir)))
    return Queue("sae", connection=connection, serializer=JSONSerializer)


def _kind(process: psutil.Process) -> str:
    try:
        if process.name() in ("valkey-server", "redis-server"):
            return "redis"
        return next((PARTS[word] for word in process.cmdline() if word in PARTS), "")
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def make_app(data_dir: Path, *arguments: str, **variables: str) -> App:
    """An app that is not started yet."""
    port = free_port()
    env = clean_environment(data_dir, **{"MISTUDIO_PORT": str(port), **variables})
    return App(data_dir, int(env["MISTUDIO_PORT"]), env, arguments)
