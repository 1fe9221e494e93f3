"""A large download from the real product: its web process keeps hardly any of it."""

import hashlib
import json
import os
import socket
import time
from http.client import IncompleteRead
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.apps import App, manage

pytestmark = pytest.mark.processes
SIZE = 300 * 2**20
ROOM = 32 * 2**20  # what a web process may take more while it sends
MAKE = """
import json
from saes import accounts, api_tokens, services
from saes.models import Sae, SaeFile
from saes.storage import Written
sae = Sae.objects.create(
    name="large", source="huggingface", status="ready", architecture="standard", format="saelens"
)
path = services.library().open_home(sae.id) / "source" / "weights.bin"
path.parent.mkdir()
with path.open("wb") as file:
    file.truncate({size})
services.record_file(sae, SaeFile.Kind.SOURCE, Written(path, {size}, "{sha256}"))
token = api_tokens.create(accounts.ensure_owner(), "large", "read")[1]
print(json.dumps([sae.id, token]))
"""


def zeros() -> str:
    digest, piece = hashlib.sha256(), bytes(2**20)
    for _ in range(SIZE // len(piece)):
        digest.update(piece)
    return digest.hexdigest()


class Large:
    """An SAE of one file, as large as SIZE and all zeros."""

    def __init__(self, app: App) -> None:
        self.app, self.sha256 = app, zeros()
        code = MAKE.format(size=SIZE, sha256=self.sha256)
        done = manage("shell", "--no-imports", "-c", code, env=app.env)
        assert done.returncode == 0, done.stderr
        told: list[str] = json.loads(done.stdout.splitlines()[-1])
        self.sae_id, self.token = told

    @property
    def web(self) -> psutil.Process:
        return self.app.parts("web")[0]

    def path(self, query: str = "") -> str:
        return f"/api/v1/saes/{self.sae_id}/download?{query}"

    @property
    def file(self) -> Path:
        return self.app.data_dir.joinpath("saes", self.sae_id, "source", "weights.bin")

    def request(self, query: str = "", **headers: str) -> Request:
        known = {"Authorization": f"Bearer {self.token}", **headers}
        return Request(self.app.url + self.path(query), headers=known)


@pytest.fixture(scope="module")
def large(running_app: App) -> Large:
    return Large(running_app)


def test_a_large_file_arrives_whole_through_a_web_process_that_stays_small(large: Large) -> None:
    before, most, digest = large.web.memory_info().rss, 0, hashlib.sha256()
    with urlopen(large.request("file=weights.bin"), timeout=60) as answer:
        assert int(answer.headers["Content-Length"]) == SIZE
        while piece := answer.read(4 * 2**20):
            digest.update(piece)
            most = max(most, large.web.memory_info().rss)
    assert digest.hexdigest() == large.sha256
    assert most - before < ROOM


def test_nothing_piles_up_for_a_client_that_does_not_read(large: Large) -> None:
    before = large.web.memory_info().rss
    with socket.create_connection(("127.0.0.1", large.app.port)) as line:
        line.sendall(
            f"GET {large.path()} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {large.token}\r\n\r\n".encode()
        )
        assert line.recv(15) == b"HTTP/1.1 200 OK"
        time.sleep(2)  # far longer than making all of it takes
        assert large.web.memory_info().rss - before < ROOM


def test_a_zip_goes_on_where_it_was_interrupted(large: Large) -> None:
    with urlopen(large.request(), timeout=60) as answer:
        whole, etag = int(answer.headers["Content-Length"]), answer.headers["ETag"]
    rest = large.request(Range=f"bytes={SIZE}-", **{"If-Range": etag})
    with urlopen(rest, timeout=60) as answer:
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {SIZE}-{whole - 1}/{whole}"
        tail = answer.read()
    assert len(tail) == whole - SIZE
    assert tail.endswith(b"PK\x05\x06" + tail[-18:])


def test_what_breaks_off_ends_the_connection_and_the_server_goes_on(large: Large) -> None:
    with urlopen(large.request("file=weights.bin"), timeout=60) as answer:
        answer.read(1000)
        os.truncate(large.file, 1000)
        with pytest.raises((IncompleteRead, ConnectionError)):
            answer.read()
    os.truncate(large.file, SIZE)
    with urlopen(large.request("file=weights.bin", Range="bytes=-5"), timeout=60) as answer:
        assert answer.read() == bytes(5)
