"""Sockets of the running product: long frames, floods, and clients that do not read."""

import json
import socket
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from tests.apps import App, make_app, manage
from tests.sockets import over_the_wire, token_of
from tests.visitor import Visitor

pytestmark = pytest.mark.processes
COUNT = 500
MANY = f"""
from saes.models import Sae
made = [Sae(name="many", source="local", status="error", error_message="failed " * 800)
        for _ in range({COUNT})]
for sae in Sae.objects.bulk_create(made): print("id", sae.id)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One of its own: floods leave the memory of a process larger for whoever measures it next."""
    made = make_app(tmp_path_factory.mktemp("sockets"))
    made.start().wait_until_ready()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def token(app: App) -> str:
    return token_of(app)


@pytest.fixture(autouse=True)
def still_well(app: App) -> Iterator[None]:
    """Whatever was sent, the product goes on, and its log is not filled."""
    before = len(app.lines)
    yield
    assert app.is_healthy()
    said = "\n".join(app.lines[before:])
    assert "Traceback" not in said and "Exception" not in said


@pytest.mark.parametrize("size", [70_000, 2_000_000, 10_000_000])
def test_a_long_frame_ends_the_socket(app: App, token: str, size: int) -> None:
    for frame in ("x" * size, bytes(size)):
        with over_the_wire(app, token) as line, pytest.raises(ConnectionClosedError):
            line.send(frame)
            while True:
                assert "65536 bytes" in str(line.recv(timeout=10))


def test_a_flood_ends_the_socket(app: App, token: str) -> None:
    frame = json.dumps({"action": "unsubscribe", "channels": ["sae/*"]})
    with over_the_wire(app, token) as line, pytest.raises(ConnectionClosedError) as end:
        for _ in range(5_000):
            line.send(frame)
        while True:
            line.recv(timeout=10)
    assert end.value.rcvd is not None and end.value.rcvd.code == 4429


def test_strangers_and_foreign_pages_are_answered_403(app: App, token: str) -> None:
    bearer = f"Bearer {token}"
    for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": bearer, "Origin": "null"},
                 {"Authorization": bearer, "Origin": "http://evil.example"}):  # fmt: skip
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{app.port}/ws/", additional_headers=sent).close()
        assert refused.value.response.status_code == 403


def test_a_page_that_talks_is_hung_up_on(app: App) -> None:
    visitor = Visitor(app.url).sign_in(app.new_sign_in_url())
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in visitor.cookies)
    sent = {"Cookie": cookies, "Origin": app.url}
    url = f"ws://127.0.0.1:{app.port}/ws/pages/"
    with connect(url, additional_headers=sent) as line, pytest.raises(ConnectionClosedError):
        line.send("hello")
        line.recv(timeout=10)


def test_a_client_that_does_not_read_makes_nothing_grow(app: App, token: str) -> None:
    done = manage("shell", "-c", MANY, env=app.env)
    ids = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("id ")]
    frame = {"action": "subscribe", "channels": [f"sae/{sae_id}/download" for sae_id in ids]}
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", app.port))
    (web,) = app.parts("web")
    with over_the_wire(app, token, sock=narrow, max_queue=4) as line:
        line.send(json.dumps(frame))
        line.recv(timeout=10)
        before = web.memory_info().rss
        # Each frame asks for 3 MB of events, 5 MB/s would come, and none of them is read.
        for _ in range(12):
            line.send(json.dumps(frame))
            time.sleep(0.5)
        grown = web.memory_info().rss - before
        assert grown < 10 * 2**20
        heard = {json.loads(line.recv(timeout=10)).get("channel") for _ in range(200)}
        assert len(heard) > 100  # it is slow, not gone
