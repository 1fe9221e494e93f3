"""Children that die, and the end of all of them."""

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.apps import App, make_app, wait_for
from tests.conftest import StartApp

pytestmark = pytest.mark.processes


def test_a_killed_child_is_started_again_and_that_is_said(start_app: StartApp) -> None:
    app = start_app()
    for kind in ("web", "worker", "redis"):
        count, victim = len(app.parts(kind)), app.parts(kind)[0]
        victim.kill()
        wait_for(lambda kind=kind: _said_dead(app, kind))  # type: ignore[misc]
        wait_for(lambda kind=kind, count=count: len(app.parts(kind)) == count)  # type: ignore[misc]
        assert victim not in app.parts(kind)
    wait_for(app.is_healthy)
    assert app.stop() == 0


def _said_dead(app: App, kind: str) -> bool:
    end = "was killed by SIGKILL; starting it again."
    return any(line.startswith(kind) and line.endswith(end) for line in app.lines)


@pytest.mark.alone
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


def test_a_killed_supervisor_takes_all_along_and_starts_again(start_app: StartApp) -> None:
    app = start_app()
    children = app.descendants()
    assert len(children) >= 4
    app.kill()
    wait_for(lambda: not [child for child in children if child.is_running()])
    assert start_app().is_healthy()  # on the same data


def test_a_stop_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    for delay in (0.3, 0.6, 0.9, 1.2):
        app: App = make_app(tmp_path / str(delay)).start()
        time.sleep(delay)
        seen = app.descendants()
        app.process.terminate()
        assert app.wait() in (0, -signal.SIGTERM)
        wait_for(lambda seen=seen: not [c for c in seen if c.is_running()])  # type: ignore[misc]
        assert "Traceback" not in app.output
