"""What is pressed on the page Activity reaches a worker at once: over the real product."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from saes.parts import held_in
from tests.apps import App, wait_for
from tests.conftest import StartApp
from tests.hub import LocalHub, faults
from tests.jobs.test_moods import is_body
from tests.supervisor.test_jobs import files, job, start_download
from tests.visitor import Visitor

pytestmark = pytest.mark.processes
AT_ONCE = 2.0  # seconds


@pytest.fixture
def slow_hub() -> Iterator[LocalHub]:
    """It would take half a minute for the one SAE it has."""
    with LocalHub() as hub:
        hub.add_repo("alice/sae", files(), lfs_from=1000)
        hub.faults.add(is_body, faults.slow(9_000), times=None)
        yield hub


@pytest.fixture
def app(start_app: StartApp, slow_hub: LocalHub) -> App:
    """In the middle of a download."""
    app = start_app(HF_ENDPOINT=slow_hub.url)
    start_download(app)
    comes_in(app, 20_000)
    return app


def comes_in(app: App, more_than: int) -> None:
    wait_for(lambda: job(app) == ("running", "downloading") and fetched(app) > more_than)


def parts(app: App) -> list[Path]:
    return [path for path in app.data_dir.glob("saes/*/parts/*") if path.is_file()]


def fetched(app: App) -> int:
    return sum(held_in(folder) for folder in app.data_dir.glob("saes/*/parts"))


def press(visitor: Visitor, verb: str) -> float:
    """When it was pressed."""
    began = time.monotonic()
    answer = visitor.post(f"/jobs/steer/{verb}/", {"all": "1"}, page="/jobs/")
    assert answer.url.endswith("/jobs/") and "1 job." in answer.text
    return began


def comes_to_rest_at_once(app: App, visitor: Visitor, verb: str, undo: str) -> None:
    """No process is at a job any more. At the best of three times: the machine may be busy."""
    taken: list[float] = []
    while not taken or (min(taken) >= AT_ONCE and len(taken) < 3):
        if taken:
            press(visitor, undo)
            comes_in(app, fetched(app))
        began = press(visitor, verb)
        wait_for(lambda: not app.horses())
        taken.append(time.monotonic() - began)
    assert min(taken) < AT_ONCE, taken


@pytest.mark.alone
def test_pausing_stops_the_bytes_and_keeps_what_there_is(app: App, slow_hub: LocalHub) -> None:
    visitor = Visitor(app.url).sign_in(app.sign_in_url)
    comes_to_rest_at_once(app, visitor, "pause", "resume")
    assert job(app)[0] == "paused"
    kept = fetched(app)
    assert kept > 20_000
    slow_hub.log.clear()
    slow_hub.faults.clear()
    press(visitor, "resume")
    wait_for(lambda: job(app)[0] == "done")
    asked = filter(None, slow_hub.log.ranges("sae_weights.safetensors"))
    assert max(start or 0 for start, _ in asked) > 10_000  # it went on from there


@pytest.mark.alone
def test_cancelling_stops_the_bytes_and_removes_them(app: App) -> None:
    visitor = Visitor(app.url).sign_in(app.sign_in_url)
    comes_to_rest_at_once(app, visitor, "cancel", "retry")
    assert job(app)[0] == "cancelled"
    wait_for(lambda: not parts(app))
