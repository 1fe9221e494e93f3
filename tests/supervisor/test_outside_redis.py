"""A Redis-protocol server of one's own that goes away for a while: nothing waits for ever."""

import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistudio import embedded_redis
from tests.apps import App, free_port, wait_for
from tests.conftest import StartApp
from tests.hub import LocalHub
from tests.supervisor.test_jobs import files
from tests.visitor import Visitor

pytestmark = pytest.mark.processes
AWAY = 15.0  # seconds


class Server:
    """valkey-server on a port of its own, which remembers nothing."""

    def __init__(self, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> "Server":
        command = [embedded_redis.find_server(), "--port", str(self.port), "--save", ""]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(60)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path).start()
    yield server
    server.stop()


def states(app: App) -> list[str]:
    with sqlite3.connect(app.data_dir / "mistudio.sqlite3") as database:
        rows = database.execute("SELECT state FROM saes_job ORDER BY created_at").fetchall()
    database.close()
    return [state for (state,) in rows]


def test_jobs_go_on_and_begin_though_the_server_was_away_for_a_while(
    start_app: StartApp, redis: Server
) -> None:
    with LocalHub(bytes_per_second=40_000) as hub:
        for name in ("alice/sae", "bob/sae"):
            hub.add_repo(name, files(), lfs_from=1000)
        app = start_app("--workers", "1", HF_ENDPOINT=hub.url, MISTUDIO_REDIS_URL=redis.url)
        visitor = Visitor(app.url).sign_in(app.sign_in_url)
        ask(visitor, hub, "alice/sae")
        wait_for(lambda: states(app) == ["running"])
        redis.stop()
        gone = time.monotonic()
        assert ask(visitor, hub, "bob/sae") < 10, "a page does not wait for it"
        assert states(app)[1] == "queued"
        wait_for(lambda: states(app)[0] == "done")
        wait_for(lambda: "waiting for it" in app.output)  # the worker, which ended meanwhile
        assert app.is_healthy()
        time.sleep(max(0.0, AWAY - (time.monotonic() - gone)))
        redis.start()
        wait_for(lambda: states(app) == ["done", "done"], 90)


def ask(visitor: Visitor, hub: LocalHub, repo: str) -> float:
    """Seconds that it took to ask for the SAE."""
    form = {"repo": repo, "repo_type": "model", "commit": hub.repo(repo).sha, "where": "."}
    begun = time.monotonic()
    assert visitor.post("/hub/download/", form).status == 200
    return time.monotonic() - begun


def test_a_job_goes_on_while_the_web_process_is_killed(start_app: StartApp) -> None:
    with LocalHub(bytes_per_second=40_000) as hub:
        hub.add_repo("alice/sae", files(), lfs_from=1000)
        app = start_app(HF_ENDPOINT=hub.url)
        visitor = Visitor(app.url).sign_in(app.sign_in_url)
        ask(visitor, hub, "alice/sae")
        wait_for(lambda: states(app) == ["running"])
        app.parts("web")[0].kill()
        wait_for(lambda: states(app) == ["done"])
        assert not [line for line in app.lines if "worker" in line and "again" in line]
        wait_for(app.is_healthy)
        assert "alice" in visitor.get("/").text
        assert len(hub.log.requests("sae_weights", "cdn", "GET")) < 8
