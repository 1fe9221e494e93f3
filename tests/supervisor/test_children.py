"""Children that die, and the end of all of them."""

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.apps import App, make_app, wait_for
from tests.conftest import StartApp

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("kind", ["web", "worker", "redis"])
def test_a_killed_child_is_started_again_and_that_is_said(start_app: StartApp, kind: str) -> None:
    app = start_app()
    count = len(app.parts(kind))
    victim = app.parts(kind)[0]
    victim.kill()
    wait_for(lambda: "was killed by SIGKILL; starting it again." in app.output)
    wait_for(lambda: len(app.parts(kind)) == count and victim not in app.parts(kind))
    wait_for(app.is_healthy)
    assert app.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_quick_clean_and_complete(start_app: StartApp, number: signal.Signals) -> None:
    app = start_app()
    children = app.descendants()
    begun = time.monotonic()
    assert app.stop(number) == 0
    assert time.monotonic() - begun < 10
    assert app.lines[-1] == "Stopped."
    assert "Traceback" not in app.output
    assert not [child for child in children if child.is_running()]


def test_ctrl_c_on_a_terminal_reaches_the_supervisor_alone(start_app: StartApp) -> None:
    app = start_app()
    groups = {child.pid for child in app.descendants()} | {app.process.pid}
    assert len(groups) == len(app.descendants()) + 1
    own = psutil.Process(app.process.pid)
    assert all(_group(child.pid) != _group(own.pid) for child in app.descendants())


def _group(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[2])


def test_no_child_outlives_a_killed_supervisor(start_app: StartApp) -> None:
    app = start_app()
    children = app.descendants()
    assert len(children) >= 4
    app.kill()
    wait_for(lambda: not [child for child in children if child.is_running()], seconds=5)


def test_after_a_kill_the_same_data_starts_again(start_app: StartApp, tmp_path: Path) -> None:
    start_app().kill()
    again = start_app()
    assert again.is_healthy()


def test_a_stop_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    for delay in (0.3, 0.6, 0.9, 1.2):
        app: App = make_app(tmp_path / str(delay)).start()
        time.sleep(delay)
        seen = app.descendants()
        app.process.terminate()
        assert app.wait(10) in (0, -signal.SIGTERM)
        wait_for(lambda seen=seen: not [c for c in seen if c.is_running()], seconds=5)  # type: ignore[misc]
        assert "Traceback" not in app.output
