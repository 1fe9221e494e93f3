"""The first seconds: what is printed, what runs, what is refused."""

import socket
import stat
import time
from pathlib import Path

import pytest
from rq import Worker

from tests.apps import App, clean_environment, free_port, make_app, manage, queue_of, wait_for
from tests.conftest import StartApp

pytestmark = pytest.mark.processes
CANARY = "hf_canary0123456789"


@pytest.mark.alone
def test_the_first_page_is_there_within_five_seconds(start_app: StartApp) -> None:
    seconds = []
    for _ in range(3):  # the machine that runs the tests may be busy with something else
        begun = time.monotonic()
        app = start_app()
        app.get("/")
        seconds.append(time.monotonic() - begun)
        app.stop()
        if min(seconds) < 5:
            break
    assert min(seconds) < 5


def test_it_prints_where_to_go_and_the_link_opens(start_app: StartApp) -> None:
    app = start_app()  # its own: the link of one that has run for ten minutes is no longer good
    assert f"miStudio runs at {app.url}" in app.lines
    assert app.sign_in_url.startswith(app.url + "/")
    assert app.get(app.sign_in_url.removeprefix(app.url))


def test_another_link_is_another_one(running_app: App) -> None:
    link = running_app.new_sign_in_url("owner")
    assert link.startswith(running_app.url) and link != running_app.sign_in_url
    refused = manage("sign_in_link", "nobody", env=running_app.env)
    assert refused.returncode == 1
    assert "no active user 'nobody'" in refused.stderr


def test_every_part_runs(running_app: App) -> None:
    assert len(running_app.parts("redis")) == 1
    assert len(running_app.parts("web")) == 1
    assert len(running_app.parts("worker")) == 2


def test_the_web_process_is_small_and_has_no_torch(start_app: StartApp) -> None:
    app = start_app()  # its own: the one that all tests use has had their attacks, too
    (web,) = app.parts("web")
    app.get("/healthz")
    assert web.memory_info().rss < 150 * 2**20
    assert not [lib for lib in web.memory_maps() if "torch" in lib.path]


def test_workers_wait_without_torch(running_app: App) -> None:
    for worker in running_app.parts("worker"):
        assert not [lib for lib in worker.memory_maps() if "torch" in lib.path]


def test_only_the_user_can_reach_the_queue(running_app: App) -> None:
    door = running_app.data_dir / "run" / "redis.sock"
    assert stat.S_IMODE(door.stat().st_mode) == 0o700
    assert stat.S_IMODE(door.parent.stat().st_mode) == 0o700
    (redis,) = running_app.parts("redis")
    assert not [line for line in redis.net_connections("inet") if line.status == "LISTEN"]


def test_no_child_can_read_the_token(start_app: StartApp) -> None:
    app = start_app(HF_TOKEN=CANARY, HUGGING_FACE_HUB_TOKEN=CANARY)
    children = app.descendants()
    assert len(children) >= 4
    for child in children:
        seen = Path(f"/proc/{child.pid}/environ").read_bytes().decode(errors="replace")
        assert CANARY not in seen + " ".join(child.cmdline())
    assert CANARY not in app.output
    for file in app.data_dir.rglob("*"):
        assert not file.is_file() or CANARY.encode() not in file.read_bytes(), file


def test_options_count_more_than_variables(tmp_path: Path, start_app: StartApp) -> None:
    port = str(free_port())
    app = start_app("--port", port, "--workers", "1", MISTUDIO_WORKERS="3")
    assert f"miStudio runs at http://127.0.0.1:{port}" in app.lines
    assert len(app.parts("worker")) == 1
    (web,) = app.parts("web")
    assert web.environ()["MISTUDIO_PORT"] == port


def test_all_addresses_print_one_that_a_browser_can_open(start_app: StartApp) -> None:
    app = start_app("--host", "0.0.0.0")
    assert app.sign_in_url.startswith(f"http://127.0.0.1:{app.port}/")
    assert app.get(app.sign_in_url.removeprefix(app.url))


def test_ipv6(start_app: StartApp) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    app = start_app("--host", "::1")
    assert app.sign_in_url.startswith(f"http://[::1]:{app.port}/")


def test_the_public_address_is_the_one_in_the_link(start_app: StartApp) -> None:
    app = start_app(MISTUDIO_PUBLIC_URL="https://sae.example")
    assert app.sign_in_url.startswith("https://sae.example/")


@pytest.mark.parametrize("name", ["a" * 120, "with spaces and 'quotes' \"ü\""])
def test_any_name_of_the_data_directory(tmp_path: Path, start_app: StartApp, name: str) -> None:
    app = start_app(data_dir=tmp_path / name)
    assert app.is_healthy()
    assert (tmp_path / name / "redis" / "appendonlydir").is_dir()
    wait_for(lambda: len(Worker.all(queue_of(app).connection)) == 2)
    assert app.stop() == 0
    assert "starting it again" not in app.output


def test_a_second_start_on_the_same_data_is_refused(running_app: App) -> None:
    second = make_app(running_app.data_dir).start()
    assert second.wait() == 1
    assert f"already runs on {running_app.data_dir} (process {running_app.process.pid})" in (
        second.output
    )
    assert running_app.is_healthy()


def test_a_taken_port_is_said_before_anything_starts(running_app: App, tmp_path: Path) -> None:
    second = make_app(tmp_path / "data", MISTUDIO_PORT=str(running_app.port)).start()
    assert second.wait() == 1
    assert f"port {running_app.port} is taken" in second.output
    assert "Traceback" not in second.output
    assert not (tmp_path / "data" / "redis").exists()


NONSENSE = [
    ("MISTUDIO_PORT", "eighty"),
    ("MISTUDIO_PORT", "0"),
    ("MISTUDIO_PORT", "65536"),
    ("MISTUDIO_WORKERS", "-1"),
    ("MISTUDIO_WORKERS", "many"),
    ("MISTUDIO_HOST", "no.such.host.invalid"),
    ("MISTUDIO_HOST", "203.0.113.7"),
    ("MISTUDIO_PUBLIC_URL", "mistudio"),
    ("MISTUDIO_REDIS_URL", "http://localhost"),
    ("MISTUDIO_REDIS_URL", "redis://127.0.0.1:1/0"),
    ("MISTUDIO_DATABASE_URL", "mysql://localhost/x"),
    ("MISTUDIO_DATABASE_URL", "postgresql://127.0.0.1:1/x"),
    ("MISTUDIO_DATA_DIR", "/dev/null"),
    ("MISTUDIO_DEBUG", "perhaps"),
    ("HF_ENDPOINT", "ftp://hub"),
    ("HF_TOKEN_FILE", "/nowhere"),
]


@pytest.mark.parametrize(("name", "value"), NONSENSE)
def test_nonsense_stops_the_start_by_name(tmp_path: Path, name: str, value: str) -> None:
    done = manage("start", env=clean_environment(tmp_path, **{name: value}))
    assert done.returncode == 1
    assert done.stderr.startswith(f"miStudio cannot start: {name}: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--port=eighty", "--workers=0"])
def test_nonsense_in_an_option_too(tmp_path: Path, option: str) -> None:
    done = manage("start", option, env=clean_environment(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("miStudio cannot start: MISTUDIO_")
