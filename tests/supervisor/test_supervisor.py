"""The supervisor with small children, in this process."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistudio.children import MOST_STARTS, Child
from mistudio.preflight import CannotStart
from mistudio.supervisor import Supervisor


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def python(name: str, code: str) -> Child:
    return Child(name, [sys.executable, "-c", code], {"PYTHONUNBUFFERED": "1"})


def test_what_a_child_writes_is_repeated_under_its_name() -> None:
    said: list[str] = []
    with Supervisor(said.append) as supervisor:
        supervisor.start(python("talker", "import time; print('hello\\nyou'); time.sleep(60)"))
        assert supervisor.wait_until(lambda: len(said) == 2, 60)
    assert said == ["talker   | hello", "talker   | you"]


def test_the_last_words_of_a_child_are_not_lost() -> None:
    said: list[str] = []
    with Supervisor(said.append) as supervisor:
        supervisor.start(python("dying", "print('why'); raise SystemExit(3)"))
        supervisor.wait_until(lambda: len(said) > 1, 60)
    assert said[:2] == ["dying    | why", "dying ended with code 3; starting it again."]


def test_a_hushed_line_is_not_repeated() -> None:
    said: list[str] = []
    child = python("quiet", "import time; print('a warning'); print('news'); time.sleep(60)")
    child.hush = ("warning",)
    with Supervisor(said.append) as supervisor:
        supervisor.start(child)
        supervisor.wait_until(lambda: bool(said), 60)
    assert said == ["quiet    | news"]


def test_a_child_that_keeps_dying_ends_everything(tmp_path: Path) -> None:
    said: list[str] = []
    other = python("other", "import time; time.sleep(60)")
    dying = python("dying", "raise SystemExit(1)")
    too_often = pytest.raises(CannotStart, match="dying ended with code 1, too often")
    with too_often, Supervisor(said.append) as supervisor:
        supervisor.start(other)
        supervisor.start(dying)
        dying._starts.extend([dying._starts[0]] * (MOST_STARTS - 1))
        supervisor.watch()
    assert other.process is None


def test_each_restart_waits_longer_than_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("mistudio.children.time.monotonic", lambda: now)
    child = python("dying", "")
    delays = []
    for _ in range(MOST_STARTS - 1):
        child._starts.append(now)
        delays.append(child.delay())
    assert delays == pytest.approx([0.1, 0.3, 0.9, 2.7, 8.1])
    child._starts.append(now)
    assert child.delay() is None
    now += 61  # what is long past is forgiven
    assert child.delay() == 0


def test_a_child_that_ignores_term_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf');"
        "time.sleep(60)"
    )
    said: list[str] = []
    child = python("deaf", code)
    child.ending = ((0, signal.SIGTERM), (0.2, signal.SIGKILL))
    with Supervisor(said.append) as supervisor:
        supervisor.start(child)
        supervisor.wait_until(lambda: bool(said), 60)
    assert child.process is None


def test_what_others_need_ends_last(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        f"    time.sleep({{}}); open({str(log)!r}, 'a').write('{{}} '); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up'); time.sleep(60)"
    )
    said: list[str] = []
    ground = python("ground", code.format(0, "ground"))
    ground.others_need_it = True
    with Supervisor(said.append) as supervisor:
        supervisor.start(ground)
        supervisor.start(python("house", code.format(0.5, "house")))
        assert supervisor.wait_until(lambda: len(said) == 2, 60)
    assert log.read_text() == "house ground "


def test_a_second_signal_ends_at_once() -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf');"
        "time.sleep(60)"
    )
    said: list[str] = []
    child = python("deaf", code)
    child.ending = ((0, signal.SIGTERM), (30, signal.SIGKILL))
    supervisor = Supervisor(said.append)
    with supervisor:
        supervisor.start(child)
        supervisor.wait_until(lambda: bool(said), 60)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        before = signal.signal(signal.SIGALRM, supervisor._on_signal)
    signal.signal(signal.SIGALRM, before)
    assert child.process is None
