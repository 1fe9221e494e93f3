"""Uploads over real sockets: cut off in the middle, too large, of nobody; and killed imports."""

import http.client
import json
import re
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.apps import App, wait_for
from tests.conftest import StartApp
from tests.disks import fill, small_disk
from tests.imports.test_archive import zipped
from tests.jobs.test_kills import gemma_scope_sae, kill_everything
from tests.visitor import Visitor

pytestmark = pytest.mark.processes
WHERE = "models--google--gemma-scope-2b-pt-res/layer_3/width_32k/average_l0_50"
PIECE = 8 << 20
EDGE = "between-the-parts-of-a-form"


class Browser:
    """Sends what uploads.js sends."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.visitor = Visitor(app.url).sign_in(app.new_sign_in_url())
        page = self.visitor.get("/import/uploads/").text
        self.token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[-1]
        self.form = re.findall(r'action="(/import/uploads/send/[^"]+)"', page)[0]

    def headers(self) -> dict[str, str]:
        cookies = "; ".join(f"{it.name}={it.value}" for it in self.visitor.cookies)
        return {"Cookie": cookies, "X-CSRFToken": self.token, "Origin": self.app.url}

    def post(self, path: str, body: bytes, kind: str = "application/octet-stream") -> Any:
        """Status, and the answer where it is JSON."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.app.port, timeout=60)) as line:
            line.request("POST", path, body, {**self.headers(), "Content-Type": kind})
            answer = line.getresponse()
            told = answer.read()
        is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
        return answer.status, json.loads(told) if is_json else told.decode()

    def announce(self, *files: tuple[str, int]) -> dict[str, Any]:
        listed = [{"name": name, "size": size} for name, size in files]
        body = json.dumps({"files": listed}).encode()
        status, told = self.post("/import/uploads/announce/", body, "application/json")
        assert status == 200, told
        return dict(told)

    def send(self, made: dict[str, Any], path: Path) -> None:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                here = file.tell() - len(piece)
                status, _ = self.post(f"{made['pieces']}?file=0&offset={here}", piece)
                assert status == 200

    def begin(self, path: str, length: int, body: bytes, **more: str) -> socket.socket:
        """A request of which only this part of the body is sent."""
        line = socket.create_connection(("127.0.0.1", self.app.port), timeout=30)
        said = {**self.headers(), "Host": f"127.0.0.1:{self.app.port}", **more}
        said["Content-Length"] = str(length)
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        line.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return line


@pytest.fixture(scope="module")
def browser(running_app: App) -> Browser:
    return Browser(running_app)


def files_of(app: App) -> list[Path]:
    return [path for path in (app.data_dir / "uploads").rglob("*") if path.is_file()]


def test_a_piece_that_is_cut_off_counts_for_nothing_and_is_sent_again(browser: Browser) -> None:
    content = bytes(range(256)) * 4096
    made = browser.announce(("x", len(content)))
    address = f"{made['pieces']}?file=0&offset="
    assert browser.post(address + "0", content[:1000])[1] == {"here": 1000, "is_whole": False}
    rest = content[1000:]
    browser.begin(address + "1000", len(rest), rest[: len(rest) // 2]).close()
    time.sleep(0.3)
    assert browser.post(address + "0", b"x")[1]["here"] == 1000
    assert browser.post(address + "1000", rest)[1] == {"here": len(content), "is_whole": True}
    (path,) = [it for it in files_of(browser.app) if made["id"] in it.parts]
    assert path.read_bytes() == content
    assert browser.post(made["discard"], b"")[0] == 302


@pytest.mark.parametrize("signed_in", [True, False])
def test_a_body_that_is_too_large_is_not_kept(browser: Browser, signed_in: bool) -> None:
    length = (16 << 20) + 1
    for path in ("/sign-in/", "/import/uploads/announce/", "/import/uploads/send/forged/"):
        who = {} if signed_in else {"Cookie": "", "X-CSRFToken": ""}
        with browser.begin(path, length, b"", **who) as line:
            for _ in range(16):
                line.sendall(bytes(1 << 20))
            line.sendall(b"x")
            assert line.recv(100).startswith(b"HTTP/1.1 413")
    assert not files_of(browser.app)


def test_a_body_without_a_length_is_counted(browser: Browser) -> None:
    line = socket.create_connection(("127.0.0.1", browser.app.port), timeout=30)
    host = f"127.0.0.1:{browser.app.port}"
    head = f"POST /sign-in/ HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with line:
        line.sendall(head.encode())
        for _ in range(17):
            line.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
        line.sendall(b"0\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def multipart(path: Path, token: str) -> tuple[bytes, bytes]:
    """What stands before the file, and behind it."""
    start = (
        f'--{EDGE}\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{token}\r\n'
        f'--{EDGE}\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    )
    return start.encode(), f"\r\n--{EDGE}--\r\n".encode()


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    """An SAE in a stored zip of 268 MB."""
    weights = gemma_scope_sae(tmp_path / "params.npz", 1024, 32_768)
    path = zipped(tmp_path / "mine.zip", {f"{WHERE}/params.npz": weights.read_bytes()}, method=0)
    weights.unlink()
    yield path
    path.unlink()


def test_a_large_form_is_never_whole_in_memory(browser: Browser, large: Path) -> None:
    (web,) = browser.app.parts("web")
    start, end = multipart(large, browser.token)
    length = len(start) + large.stat().st_size + len(end)
    before, most = web.memory_info().rss, 0
    kind = {"Content-Type": f"multipart/form-data; boundary={EDGE}"}
    with browser.begin(browser.form, length, start, **kind) as line, large.open("rb") as file:
        line.settimeout(60)
        while chunk := file.read(1 << 20):
            line.sendall(chunk)
            most = max(most, web.memory_info().rss)
        line.sendall(end)
        line.setblocking(False)
        answer = b""
        while not answer:
            most = max(most, web.memory_info().rss)
            time.sleep(0.01)
            try:
                answer = line.recv(4096)
            except BlockingIOError:
                continue
    assert answer.startswith(b"HTTP/1.1 302")
    assert most - before < 60 * 2**20
    page = re.findall(rb"Location: (\S+)", answer)[0].decode()
    assert "width_32k" in browser.visitor.get(page).text
    (kept,) = files_of(browser.app)
    assert kept.stat().st_size == large.stat().st_size
    assert browser.post(f"{page}discard/", b"")[0] == 302
    assert not files_of(browser.app)


def test_two_forms_do_not_count_on_the_same_bytes(start_app: StartApp, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        browser = Browser(start_app(data_dir=disk / "data"))
        free = shutil.disk_usage(disk).free
        kind = {"Content-Type": f"multipart/form-data; boundary={EDGE}"}
        half = (free - (64 << 20)) // 4 + (8 << 20)  # it and its files: more than half of the room
        with browser.begin(browser.form, half, b"", **kind) as first:
            first.sendall(bytes(1 << 20))
            time.sleep(0.5)
            assert answer_to(browser, half).startswith(b"HTTP/1.1 507")
            assert shutil.disk_usage(disk).free > free - (8 << 20)
        time.sleep(0.5)
        assert not answer_to(browser, half).startswith(b"HTTP/1.1 507")
        browser.announce(("x", 2 * half))
        assert answer_to(browser, half).startswith(b"HTTP/1.1 507")  # the upload counts, too


def test_a_form_is_refused_when_the_disk_fills_while_it_comes(
    start_app: StartApp, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        browser = Browser(start_app(data_dir=disk / "data"))
        length = 40 << 20
        with browser.begin(browser.form, length, bytes(length // 2)) as line:
            time.sleep(0.5)
            fill(disk, 70 << 20)
            line.sendall(bytes(length // 2))
            assert line.recv(100).startswith(b"HTTP/1.1 507")
            assert shutil.disk_usage(disk).free > 70 << 20


def answer_to(browser: Browser, length: int) -> bytes:
    """The beginning of what the form answers to this many bytes that are none of a form."""
    with browser.begin(browser.form, length, b"") as line:
        for sent in range(0, length, 1 << 20):
            line.sendall(bytes(min(1 << 20, length - sent)))
        return line.recv(100)


def test_an_import_from_an_upload_that_is_killed_goes_on_and_leaves_nothing(
    start_app: StartApp, large: Path
) -> None:
    app = start_app(MISTUDIO_WORKERS="1")
    browser = Browser(app)
    made = browser.announce(("mine.zip", large.stat().st_size))
    browser.send(made, large)
    body = f"csrfmiddlewaretoken={browser.token}&every=1".encode()
    kind = "application/x-www-form-urlencoded"
    assert browser.post(f"{made['page']}import/", body, kind)[0] == 302
    for stage in ("copying", "converting"):
        wait_for(lambda s=stage: row(app)["stage"] == s)  # type: ignore[misc]
        kill_everything(app)
        assert row(app)["status"] != "ready"
        app.lines.clear()
        app.start().wait_until_ready()
    wait_for(lambda: row(app)["status"] == "ready", 90)
    wait_for(lambda: not list((app.data_dir / "uploads").glob("up_*")))
    assert not list(app.data_dir.glob("saes/*/parts/*"))
    assert [path.name for path in app.data_dir.glob("saes/*/source/**/*.npz")] == ["params.npz"]


def row(app: App) -> dict[str, Any]:
    path = f"file:{app.data_dir}/mistudio.sqlite3?mode=ro"
    with closing(sqlite3.connect(path, uri=True, timeout=10)) as database:
        database.row_factory = sqlite3.Row
        found = database.execute(
            "select j.*, s.status from saes_job j join saes_sae s on s.id = j.sae_id"
        ).fetchone()
    return dict(found)
