"""Row S36 for programs: Hub tokens in requests, and API tokens, looked for everywhere.

The vault's ciphertext is all that may hold a Hub token; of a token of the API its hash is all.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.apps import App, make_app, manage, queue_of, wait_for
from tests.attacks.test_secrets import WHERE, found_in
from tests.hub import LocalHub, faults, upload_faults
from tests.jobs.conftest import sample_files
from tests.sockets import over_the_wire, token_of
from tests.visitor import Visitor

pytestmark = pytest.mark.processes
GIVEN, WRONG = "hf_ONETIMEcanary77pq4z", "hf_WRONGTIMEcanary1x8"
WRITES = "hf_WRITINGcanary52mt9e"
FORGED = "mis_FORGEDcanary00000000000000000000000000000000"
PRIVATE, CORRUPT, GATED = "carol/gemma-scope-2b-pt-res", "carol/corrupt", "google/gated"
PUBLISHED = "carol/published"
PAGES = ("/", "/hub/", "/hub/tokens/", "/storage/", "/account/tokens/", "/admin/",
         "/admin/saes/job/", "/admin/saes/sae/", "/admin/saes/apitoken/", "/admin/saes/hubtoken/",
         "/admin/django_rq/dashboard/", "/admin/django_rq/dashboard/queues/0/finished/",
         "/api/v1/docs")  # fmt: skip


@dataclass
class Program:
    """Uses the API of a running product, and keeps whatever it was answered."""

    app: App
    token: str
    heard: list[bytes] = field(default_factory=list)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        named = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = Request(f"{self.app.url}/api/v1{path}", sent, named | headers, method=method)
        try:
            with urlopen(request, timeout=60) as answer:
                said, told = answer.read(), str(answer.headers)
        except HTTPError as error:
            with error:
                said, told = error.read(), str(error.headers)
        self.heard += [said, told.encode()]
        return json.loads(said)

    def download(self, repo: str, token: str, **headers: str) -> Any:
        body = {"repo_id": repo, "filepath": WHERE, "access_token": token}
        return self("POST", "/saes/download", body, **headers)

    def status(self, sae_id: str) -> str:
        return str(self("GET", f"/saes/{sae_id}")["status"])

    def upload(self, sae_id: str, token: str, **more: Any) -> Any:
        body = {"sae_id": sae_id, "repo_id": PUBLISHED, "license": "mit", "access_token": token}
        return self("POST", "/saes/upload", {**body, **more})

    def ends(self, upload_id: str) -> str:
        """How an upload ends, once it has."""
        told: list[str] = []

        def over() -> bool:
            told.append(self("GET", f"/uploads/{upload_id}")["status"])
            return told[-1] in ("ready", "error")

        wait_for(over)
        return told[-1]


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as local:
        local.add_token(GIVEN, "carol")
        local.add_token(WRITES, "carol", "write")
        files = sample_files("gemma_scope_1_res")
        for repo in (PRIVATE, CORRUPT):
            local.add_repo(repo, files, private=True, readers=["carol"])
        local.add_repo(GATED, files, gated="manual")
        yield local


@pytest.fixture(scope="module")
def app(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    variables = {"HF_ENDPOINT": hub.url, "MISTUDIO_API_RATE": "100000"}
    made = make_app(tmp_path_factory.mktemp("programs") / "data", **variables)
    made.start().wait_until_ready()
    yield made
    made.stop()


@dataclass
class Seen:
    """What was to be seen while tokens were in use, and the tokens of the API themselves."""

    everything: list[bytes]
    processes: list[bytes]
    tokens: list[str]

    def canaries(self) -> tuple[str, ...]:
        return (GIVEN, WRONG, WRITES, FORGED, *self.tokens)


def processes_of(app: App) -> Iterator[bytes]:
    """Command lines of all, environments of the children: `make start` has what it was given."""
    yield Path(f"/proc/{app.process.pid}/cmdline").read_bytes()
    for child in app.descendants():
        for name in ("cmdline", "environ"):
            with suppress(ProcessLookupError, FileNotFoundError):  # one whose job has just ended
                yield Path(f"/proc/{child.pid}/{name}").read_bytes()


def mistakes(program: Program) -> None:
    """Requests that are refused, with a token in every place where one could be put by mistake."""
    for path in ("/saes/hf/preview", "/saes/download"):
        for body in (
            {"repo_id": PRIVATE, "access_token": WRONG}, {"repo_id": GATED, "access_token": GIVEN},
            {"repo_id": PRIVATE, "acces_token": GIVEN}, {"repo_id": GIVEN, "access_token": 5},
            {"repo_id": PRIVATE, "access_token": f"{GIVEN} {GIVEN}"}, [GIVEN], GIVEN,
            {"repo_id": PRIVATE, "access_token": GIVEN * 30}, {GIVEN: GIVEN},
            {"repo_id": PRIVATE, "access_token": [GIVEN]},
            {"repo_id": "carol/none", "access_token": GIVEN},
            {"repo_id": PRIVATE, "revision": "none", "access_token": GIVEN},
        ):  # fmt: skip
            shown = program("POST", path, body)
            # A repository's name is said again; a token that was typed there is its user's doing.
            if isinstance(body, dict) and GIVEN in str(body.get("repo_id")):
                program.heard[-2] = json.dumps(shown).replace(GIVEN, "").encode()


def publishes(program: Program, hub: LocalHub, sae_id: str) -> Iterator[str]:
    """Rehearsals, refusals, an upload that fails and one that is published: how each ends."""
    yield program.upload(sae_id, WRONG)["code"]
    yield program.upload(sae_id, GIVEN)["code"]  # it may only read
    yield program.upload(sae_id, WRITES, acces_token=WRITES)["code"]
    yield program.upload(sae_id, WRITES, dry_run=True)["account"]
    hub.faults.add("/commit/", upload_faults.refused(403, text=f"no, {WRITES}"))
    yield program.ends(program.upload(sae_id, WRITES)["id"])
    yield program.ends(program.upload(sae_id, WRITES)["id"])


@pytest.fixture(scope="module")
def seen(app: App, hub: LocalHub) -> Seen:
    visitor = Visitor(app.url).sign_in(app.sign_in_url)
    made = visitor.post(
        "/account/tokens/", {"name": "x", "scope": "write", "lifetime": "30"}, "/account/tokens/"
    )
    (second,) = set(re.findall(r"mis_[\w-]{43}", made.text))
    program = Program(app, token_of(app))
    processes: list[bytes] = []
    with over_the_wire(app, program.token) as line:
        line.send(json.dumps({"action": "subscribe", "channels": ["sae/*/*"]}))
        key = {"Idempotency-Key": "once"}
        preview = {"repo_id": PRIVATE, "access_token": GIVEN}
        for _ in range(2):
            assert program("POST", "/saes/hf/preview", preview, **key)["sae_paths"] == [WHERE]
        mistakes(program)
        hub.faults.add(lambda asked: PRIVATE in asked.file, faults.slow(4000), where="cdn")
        hub.faults.add(
            lambda asked: CORRUPT in asked.file, faults.corrupt(5000), where="cdn", times=None
        )
        good = program.download(PRIVATE, GIVEN, **{"Idempotency-Key": "two"})
        wait_for(lambda: program.status(good["id"]) == "downloading")
        processes += processes_of(app)
        program("POST", f"/jobs/{good['job_id']}/pause")
        program("POST", f"/jobs/{good['job_id']}/resume")
        wait_for(lambda: program.status(good["id"]) == "ready")
        ends = list(publishes(program, hub, good["id"]))
        assert ends == ["bad_token", "access_denied", "bad_body", "carol", "error", "ready"]
        processes += processes_of(app)
        bad = program.download(CORRUPT, GIVEN)
        wait_for(lambda: program.status(bad["id"]) == "error")
        again = program("POST", f"/jobs/{bad['job_id']}/retry", {"access_token": GIVEN})
        wait_for(lambda: program("GET", f"/jobs/{again['id']}")["state"] == "failed")
        frames: list[str] = []
        while not frames or bad["id"] not in frames[-1] or "error" not in frames[-1]:
            frames.append(str(line.recv(timeout=10)))
    Program(app, FORGED, program.heard)("GET", "/saes")
    Program(app, second, program.heard)("GET", f"/saes?access_token={GIVEN}")
    for path in ("/saes", "/jobs", "/uploads", f"/saes/{good['id']}", "/openapi.json"):
        program("GET", path)
    pages = [visitor.get(path) for path in (*PAGES, f"/saes/{bad['id']}/")]
    assert {page.status for page in pages} == {200}
    processes += processes_of(app)
    texts = [page.text.encode() for page in pages] + [frame.encode() for frame in frames]
    return Seen(program.heard + texts, processes, [program.token, second])


def rows(app: App) -> dict[str, list[Any]]:
    """Every row of every table."""
    with sqlite3.connect(app.data_dir / "mistudio.sqlite3") as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        told = {name: database.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}
    database.close()
    return told


def test_the_tokens_were_really_used(hub: LocalHub, seen: Seen) -> None:
    tails = {entry.token_tail for entry in hub.log.requests(origin="hub")}
    assert {GIVEN[-4:], WRONG[-4:], WRITES[-4:]} <= tails
    assert len(set(seen.tokens)) == 2
    assert not any(entry.authorized for entry in hub.log.requests(origin="cdn"))


def test_s36_no_answer_page_or_frame_holds_a_token(seen: Seen) -> None:
    for it in seen.everything:
        assert found_in(it, seen.canaries()) == [], it[:300]


def test_s36_no_row_holds_a_token(app: App, seen: Seen) -> None:
    for table, found in rows(app).items():
        assert found_in(repr(found).encode(), seen.canaries()) == [], table


def test_s36_a_token_for_one_job_is_gone_with_it(app: App, seen: Seen) -> None:
    """Pages of the file that are free by now may hold its ciphertext still."""
    assert rows(app)["saes_hubtoken"] == []
    assert len(rows(app)["saes_job"]) == 5


def test_s36_of_a_token_of_the_api_its_hash_is_kept(app: App, seen: Seen) -> None:
    kept = repr(rows(app)["saes_apitoken"])
    for token in seen.tokens:
        assert hashlib.sha256(token.encode()).hexdigest() in kept
    assert len(rows(app)["saes_keptanswer"]) == 2  # and test_no_row looked into them


def test_s36_no_file_holds_a_token(app: App, seen: Seen) -> None:
    for path in app.data_dir.rglob("*"):
        if path.is_file():
            assert found_in(path.read_bytes(), seen.canaries()) == [], path


def test_s36_the_queue_holds_no_token(app: App, seen: Seen) -> None:
    """As it is in memory: dumps are packed, and files of it are written later."""
    store = queue_of(app).connection
    keys = list(store.scan_iter("*"))
    assert keys
    read: dict[Any, Callable[[bytes], Any]] = {
        b"string": store.get, b"hash": store.hgetall, b"set": store.smembers,
        b"list": lambda key: store.lrange(key, 0, -1), b"stream": store.xrange,
        b"zset": lambda key: store.zrange(key, 0, -1),
    }  # fmt: skip
    for key in keys:
        held = read[store.type(key)](key)
        assert found_in(repr((key, held)).encode(), seen.canaries()) == [], key


def test_s36_no_log_line_holds_a_token(app: App, seen: Seen) -> None:
    assert found_in(app.output.encode(), seen.canaries()) == []


def test_s36_no_process_shows_a_token(seen: Seen) -> None:
    assert len(seen.processes) > 10
    for it in seen.processes:
        assert found_in(it, seen.canaries()) == []


def test_s36_a_token_that_was_made_is_on_stdout_alone(app: App) -> None:
    """The last line; what is logged beside it does not repeat it."""
    done = manage("create_api_token", env=app.env)
    token = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"mis_[\w-]{43}", token)
    assert token not in done.stderr
    assert (done.stdout + done.stderr).count(token) == 1
