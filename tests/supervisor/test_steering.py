"""What is pressed on the page Activity reaches a worker at once: over the real product."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from saes.parts import held_in
from tests.apps import App, wait_for
from tests.conftest import StartApp
from tests.hub import LocalHub
from tests.supervisor.test_jobs import files, job, start_download
from tests.visitor import Visitor

pytestmark = pytest.mark.processes
AT_ONCE = 2.0  # seconds


@pytest.fixture
def slow_hub() -> Iterator[LocalHub]:
    """It would take ten seconds for the one SAE it has."""
    with LocalHub(bytes_per_second=27_000) as hub:
        hub.add_repo("alice/sae", files(), lfs_from=1000)
        yield hub


@pytest.fixture
def app(start_app: StartApp, slow_hub: LocalHub) -> App:
    """In the middle of a download."""
    app = start_app(HF_ENDPOINT=slow_hub.url)
    start_download(app)
    wait_for(lambda: job(app) == ("running", "downloading") and fetched(app) > 20_000, 30)
    return app


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


def comes_to_rest(app: App, began: float) -> None:
    """No process is at a job any more, and that soon."""
    wait_for(lambda: not app.horses(), 10)
    assert time.monotonic() - began < AT_ONCE


def test_pausing_stops_the_bytes_and_keeps_what_there_is(app: App, slow_hub: LocalHub) -> None:
    visitor = Visitor(app.url).sign_in(app.sign_in_url)
    comes_to_rest(app, press(visitor, "pause"))
    assert job(app)[0] == "paused"
    kept = fetched(app)
    assert kept > 20_000
    slow_hub.log.clear()
    press(visitor, "resume")
    wait_for(lambda: job(app)[0] == "done", 60)
    asked = filter(None, slow_hub.log.ranges("sae_weights.safetensors"))
    assert max(start or 0 for start, _ in asked) > 10_000  # it went on from there


def test_cancelling_stops_the_bytes_and_removes_them(app: App) -> None:
    comes_to_rest(app, press(Visitor(app.url).sign_in(app.sign_in_url), "cancel"))
    assert job(app)[0] == "cancelled"
    wait_for(lambda: not parts(app), AT_ONCE)
