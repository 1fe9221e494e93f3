"""Tokens of the Hub, looked for where they must not be: on disk, in processes, pages and frames."""

import base64
import os
import re
import socket
import stat
from collections.abc import Iterator, Sequence
from http.cookiejar import CookieJar
from pathlib import Path

import psutil
import pytest

from tests.apps import App, make_app, wait_for
from tests.hub import LocalHub, faults
from tests.jobs.conftest import sample_files
from tests.visitor import Page, Visitor

pytestmark = pytest.mark.processes
SERVERS, USERS, WRONG = "hf_SERVERcanary83kq2x", "hf_USERcanary59zt7wm1", "hf_WRONGcanary4471bx9"
CANARIES = (SERVERS, USERS, WRONG)
WHERE = "layer_12/width_16k/average_l0_41"
MAIN_PAGES = ("/", "/hub/", "/hub/tokens/", "/storage/", "/admin/", "/admin/saes/job/",
              "/admin/saes/sae/", "/admin/saes/hubtoken/")  # fmt: skip


def found_in(content: bytes, canaries: Sequence[str] = CANARIES) -> list[str]:
    """Canaries in it, as they are or in base64."""
    return [it for it in canaries if it.encode() in content or _packed(it) in content]


def _packed(canary: str) -> bytes:
    # Without the ends, which depend on what stands beside it.
    return base64.b64encode(b"xxx" + canary.encode())[4:-6]


class Ear:
    """A page's socket, as a browser opens it; keeps what it hears."""

    def __init__(self, app: App, cookies: CookieJar, sae_id: str) -> None:
        self.line = socket.create_connection(("127.0.0.1", app.port), timeout=5)
        cookie = "; ".join(f"{it.name}={it.value}" for it in cookies)
        key = base64.b64encode(os.urandom(16)).decode()
        self.line.sendall(
            f"GET /ws/pages/?sae={sae_id} HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\n"
            f"Origin: {app.url}\r\nCookie: {cookie}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.heard = b""

    def listen(self, seconds: float) -> None:
        self.line.settimeout(seconds)
        try:
            while piece := self.line.recv(65536):
                self.heard += piece
        except TimeoutError:
            return


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as local:
        local.add_token(SERVERS, "server")
        local.add_token(USERS, "alice")
        files = sample_files("gemma_scope_1_res")
        local.add_repo("alice/gemma-scope-2b-pt-res", files, private=True, readers=["alice"])
        local.add_repo("server/private", files, private=True, readers=["server"])
        local.add_repo("google/gemma-scope-gated-res", files, gated="manual")
        local.add_repo(
            "alice/broken", {f"{WHERE}/params.npz": b"PK\x03\x04 no archive" * 20}, private=True
        )
        local.add_repo("alice/corrupt", files, private=True)
        yield local


@pytest.fixture(scope="module")
def app(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("secrets")
    made = make_app(folder / "data", HF_ENDPOINT=hub.url, HF_TOKEN=SERVERS)
    made.start().wait_until_ready()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def seen(app: App, hub: LocalHub) -> list[Page | bytes]:
    """Everything that a user of both tokens gets to see, failures included."""
    visitor = Visitor(app.url).sign_in(app.sign_in_url)
    shown: list[Page | bytes] = [visitor.get("/hub/server/private/")]
    assert shown[0].status == 200 and WHERE in shown[0].text  # type: ignore[union-attr]
    shown.append(visitor.post("/hub/", {"repo": "a/b", "token": WRONG}, page="/hub/"))
    shown.append(visitor.get("/hub/alice/gemma-scope-2b-pt-res/"))
    shown.append(visitor.post("/hub/", {"repo": "no repo", "token": USERS}, page="/hub/"))
    for form in (
        {"name": "mine", "token": USERS}, {"name": "mine", "token": WRONG},
        {"name": "", "token": USERS}, {"name": USERS, "token": USERS},
    ):  # fmt: skip
        shown.append(visitor.post("/hub/tokens/", form, page="/hub/tokens/"))
    shown.append(
        visitor.post("/hub/", {"repo": "alice/gemma-scope-2b-pt-res", "token": USERS}, page="/hub/")
    )
    assert shown[-1].status == 200 and WHERE in shown[-1].text  # type: ignore[union-attr]
    for repo in ("server/private", "google/gemma-scope-gated-res", "alice/broken", "../x"):
        shown.append(visitor.get(f"/hub/{repo}/"))
        shown.append(visitor.get(f"/hub/{repo}/header/?where={WHERE}"))
    shown.append(visitor.get("/hub/alice/gemma-scope-2b-pt-res/?revision=nowhere"))
    hub.faults.add(
        lambda asked: "alice/corrupt" in asked.file, faults.corrupt(5000), where="cdn", times=None
    )
    ears = []
    for repo in (
        "alice/gemma-scope-2b-pt-res",
        "alice/corrupt",
        "alice/broken",
        "google/gemma-scope-gated-res",
    ):
        form = {"repo": repo, "repo_type": "model", "commit": hub.repo(repo).sha, "where": WHERE}
        page = visitor.post("/hub/download/", form, page="/hub/")
        sae_id = page.url.rstrip("/").rpartition("/")[2]
        ears.append(Ear(app, visitor.cookies, sae_id))
        wait_for(lambda p=page: _ended(visitor.get(f"{p.url}card/").text))  # type: ignore[misc]
        shown += [visitor.get(page.url), visitor.get(f"{page.url}card/")]
    states = [_ended(it.text) for it in shown[-8::2] if isinstance(it, Page)]
    assert states == ["ready", "error", "error", "error"]
    for ear in ears:
        ear.listen(0.5)
        ear.line.close()
        assert b"101 Switching" in ear.heard and b"card-sae_" in ear.heard
    dashboard = "/admin/django_rq/dashboard/"
    shown += [
        visitor.get(path) for path in (*MAIN_PAGES, dashboard, f"{dashboard}queues/0/finished/")
    ]
    jobs = set(re.findall(r"/admin/saes/job/(job_\w+)/", visitor.get("/admin/saes/job/").text))
    assert len(jobs) == 4
    shown += [visitor.get(f"/admin/saes/job/{job}/change/") for job in jobs]
    return [*shown, *(ear.heard for ear in ears)]


def _ended(text: str) -> str:
    found = re.search(r'data-state="(ready|error)"', text)
    return found[1] if found else ""


def test_the_tokens_were_really_used(hub: LocalHub, seen: list[Page | bytes]) -> None:
    tails = {entry.token_tail for entry in hub.log.requests(origin="hub")}
    assert {it[-4:] for it in CANARIES} <= tails
    assert not any(entry.authorized for entry in hub.log.requests(origin="cdn"))


def test_no_page_and_no_frame_holds_a_token(seen: list[Page | bytes]) -> None:
    for it in seen:
        if isinstance(it, Page):
            assert found_in(it.text.encode() + it.url.encode()) == [], it.url
        else:
            assert found_in(it) == []


def test_the_queues_dashboard_is_there_for_the_owner(seen: list[Page | bytes]) -> None:
    pages = [it for it in seen if isinstance(it, Page) and "django_rq" in it.url]
    assert [page.status for page in pages] == [200, 200]


def test_no_file_holds_a_token(app: App, seen: list[Page | bytes]) -> None:
    files = [path for path in app.data_dir.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"mistudio.sqlite3", "vault.key", "secret.key"} <= names  # and -wal while one writes
    assert any("appendonly" in name for name in names)
    for path in files:
        assert found_in(path.read_bytes()) == [], path


def test_no_log_line_holds_a_token(app: App, seen: list[Page | bytes]) -> None:
    assert found_in(app.output.encode()) == []
    assert "Signature=" not in app.output  # a signed address is a password, too


def test_no_process_shows_a_token(app: App, seen: list[Page | bytes]) -> None:
    children = app.descendants()
    assert len(children) >= 4
    for child in children:
        for name in ("cmdline", "environ"):
            assert found_in(Path(f"/proc/{child.pid}/{name}").read_bytes()) == [], child
    assert found_in(Path(f"/proc/{app.process.pid}/cmdline").read_bytes()) == []
    assert psutil.Process(app.process.pid).is_running()


def test_key_files_are_for_their_user_alone(app: App, seen: list[Page | bytes]) -> None:
    for name in ("secret.key", "vault.key"):
        assert stat.S_IMODE((app.data_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(app.data_dir.stat().st_mode) & 0o077 == 0


def test_the_check_finds_a_token_in_clear_and_in_base64() -> None:
    for lead in (b"", b"a", b"ab"):
        assert found_in(lead + USERS.encode()) == [USERS]
    assert found_in(base64.b64encode(b"abc" + USERS.encode() + b"more")) == [USERS]
