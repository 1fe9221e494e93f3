"""The bytes on the wire: ranges, redirects, keep-alive, the log, and stopping."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.hub import Forged, Hollow, LocalHub, Zeros, certificate, faults
from tests.hub.conftest import CONFIG, WEIGHTS

WEIGHTS_AT = "/alice/sae/resolve/main/layer_7/sae.safetensors"
CONFIG_AT = "/alice/sae/resolve/main/layer_7/cfg.json"


def ask(url: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    parts = urlsplit(url)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(HTTPConnection(parts.netloc, timeout=5)) as connection:
        connection.request(method, f"{parts.path}?{parts.query}", headers=named)
        response = connection.getresponse()
        return response, response.read()


def cdn(hub: LocalHub) -> str:
    return ask(hub.url + WEIGHTS_AT)[0].headers["Location"]


def cached(hub: LocalHub) -> str:
    return hub.url + ask(hub.url + CONFIG_AT)[0].headers["Location"]


def test_a_large_file_is_redirected_to_the_other_origin(hub: LocalHub, sae: str) -> None:
    response, _ = ask(hub.url + WEIGHTS_AT, "HEAD")
    assert response.status == 302
    assert response.headers["X-Repo-Commit"] == hub.repo(sae).sha
    assert response.headers["X-Linked-Etag"] == f'"{WEIGHTS.sha256}"'
    assert response.headers["X-Linked-Size"] == str(WEIGHTS.size)
    assert response.headers["Location"].startswith(hub.cdn_url)
    assert hub.cdn_url != hub.url


def test_a_small_file_is_redirected_to_a_relative_address(hub: LocalHub, sae: str) -> None:
    response, _ = ask(hub.url + CONFIG_AT, "HEAD")
    assert response.status == 307
    assert response.headers["Location"].startswith("/api/resolve-cache/models/alice/sae/")
    final, body = ask(cached(hub))
    assert (final.status, body) == (200, CONFIG)
    assert final.headers["ETag"] == f'"{hub.repo(sae).head.files["layer_7/cfg.json"].git_sha1}"'


def test_a_private_small_file_wants_the_token_again_behind_the_redirect(hub: LocalHub) -> None:
    hub.add_repo("alice/sae", {"layer_7/cfg.json": CONFIG}, private=True)
    first, _ = ask(hub.url + CONFIG_AT, Authorization="Bearer hf_alice_1111")
    behind = hub.url + first.headers["Location"]
    assert ask(behind)[0].status == 401
    assert ask(behind, Authorization="Bearer hf_alice_1111")[1] == CONFIG


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=2999990-", 2_999_990, 3_000_000),
        ("bytes=-5", 2_999_995, 3_000_000),
        ("bytes=1048576-1048599", 1_048_576, 1_048_600),
        ("bytes=2999999-9999999", 2_999_999, 3_000_000),
    ],
)
def test_a_range_is_answered_with_just_that(
    hub: LocalHub, sae: str, asked: str, start: int, stop: int
) -> None:
    response, body = ask(cdn(hub), Range=asked)
    assert (response.status, body) == (206, WEIGHTS.read(start, stop))
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/3000000"
    assert response.headers["Accept-Ranges"] == "bytes"


def test_a_range_behind_the_end_cannot_be_satisfied(hub: LocalHub, sae: str) -> None:
    response, body = ask(cdn(hub), Range="bytes=3000000-")
    assert (response.status, body) == (416, b"")
    assert response.headers["Content-Range"] == "bytes */3000000"


def test_a_part_is_sent_only_if_the_file_is_still_the_same(hub: LocalHub, sae: str) -> None:
    url, etag = cdn(hub), f'"{WEIGHTS.sha256}"'
    assert ask(url, Range="bytes=5-", If_Range=etag)[0].status == 206
    assert ask(url, Range="bytes=5-", If_Range='"other"')[0].status == 200
    assert ask(url, Range="bytes=5-", If_Match='"other"')[0].status == 412
    assert ask(url, If_None_Match=etag)[0].status == 304


@pytest.mark.parametrize("asked", ["bytes=9-5", "bytes=-", "lines=0-5", "bytes=0-1,4-5"])
def test_a_range_that_makes_no_sense_is_passed_over(hub: LocalHub, sae: str, asked: str) -> None:
    response, body = ask(cached(hub), Range=asked)
    assert (response.status, body) == (200, CONFIG)


def test_a_signed_address_cannot_be_changed_and_expires(hub: LocalHub, sae: str) -> None:
    assert ask(cdn(hub).replace("Expires=1", "Expires=2"))[0].status == 403
    hub.url_lifetime = -1
    response, body = ask(cdn(hub))
    assert response.status == 403
    assert b"Request has expired" in body


def test_one_connection_carries_many_requests(hub: LocalHub, sae: str) -> None:
    connection = HTTPConnection(urlsplit(hub.url).netloc)
    for method, path in [("HEAD", CONFIG_AT), ("GET", "/api/nothing"), ("POST", "/api/models/x")]:
        connection.request(method, path, body=b"x" * 1000 if method == "POST" else None)
        response = connection.getresponse()
        assert (response.will_close, response.status) == (False, 307 if method == "HEAD" else 404)
        response.read()
    connection.close()


def test_an_error_is_told_in_headers_and_body(hub: LocalHub, sae: str) -> None:
    response, body = ask(hub.url + "/api/models/alice/sae/revision/v9")
    assert (response.status, response.headers["X-Error-Code"]) == (404, "RevisionNotFound")
    assert response.headers["X-Error-Message"] == json.loads(body)["error"] == "Invalid rev id: v9"
    response, body = ask(hub.url + "/alice/sae/resolve/main/no.json")
    assert (response.headers["X-Error-Code"], body) == ("EntryNotFound", b"Entry not found")
    assert response.headers["X-Repo-Commit"] == hub.repo(sae).sha


def test_a_missing_repository_may_be_told_without_a_code_as_on_the_live_hub(hub: LocalHub) -> None:
    hub.access.bare_401 = True
    response, _ = ask(hub.url + "/api/models/a/b")
    assert (response.status, response.headers["X-Error-Code"]) == (401, None)
    assert response.headers["X-Error-Message"] == "Invalid username or password."
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_readme_is_before_the_gate_and_a_missing_file_behind_it(hub: LocalHub) -> None:
    hub.add_repo("alice/sae", {"README.md": b"# hi", "sub/README.md": b"x"}, gated="manual")
    at = hub.url + "/alice/sae/resolve/main/"
    assert ask(at + "README.md")[1] == b"# hi"
    assert ask(at + "sub/README.md")[0].headers["X-Error-Code"] == "GatedRepo"
    assert ask(at + "nothing")[0].headers["X-Error-Code"] == "GatedRepo"


def test_the_next_page_is_named_by_a_link(hub: LocalHub) -> None:
    hub.add_repo("a/b", {f"f{n:04}": b"" for n in range(1001)})
    response, body = ask(hub.url + "/api/models/a/b/tree/main?recursive=true&limit=600")
    link = response.headers["Link"]
    assert link.startswith(f"<{hub.url}/api/models/a/b/tree/main?") and 'rel="next"' in link
    rest = ask(link[1 : link.index(">")])[1]
    assert (len(json.loads(body)), len(json.loads(rest))) == (600, 401)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a//b", "a/./b", "C:\\x", "a\\..\\x", "n\0l", "l\nf", "\u202ex", ""]
)
def test_any_name_is_listed_verbatim(hub: LocalHub, name: str) -> None:
    hub.add_repo("evil/names", {name: b"x", "cfg.json": CONFIG})
    rows = json.loads(ask(hub.url + "/api/models/evil/names/tree/main?recursive=true")[1])
    assert name in [row["path"] for row in rows if row["type"] == "file"]


def test_a_forged_hash_and_size_are_shown_as_they_are(hub: LocalHub) -> None:
    hub.add_repo("evil/hash", {"a.npz": Forged(b"true", size=9, sha256="sha256:../../x")})
    rows = json.loads(ask(hub.url + "/api/models/evil/hash/tree/main")[1])
    assert rows[0]["lfs"]["oid"] == "sha256:../../x"
    response, _ = ask(hub.url + "/evil/hash/resolve/main/a.npz", "HEAD")
    assert response.headers["X-Linked-Etag"] == '"sha256:../../x"'
    assert ask(response.headers["Location"], "HEAD")[0].headers["Content-Length"] == "9"


def test_gigabytes_need_no_room_and_no_time(hub: LocalHub) -> None:
    hub.add_repo("a/b", {"a.npz": Hollow(60 << 30, listing_only=True), "b.npz": Zeros(9)})
    where = ask(hub.url + "/a/b/resolve/main/a.npz")[0].headers["Location"]
    response, body = ask(where, Range="bytes=64000000000-64000000003")
    assert (response.status, len(body)) == (206, 4)


def test_the_log_says_what_was_asked_and_sent(hub: LocalHub, sae: str) -> None:
    url = cdn(hub)
    hub.log.clear()
    ask(url, Range="bytes=10-19", Authorization="Bearer hf_secret_9999")
    (entry,) = hub.log.requests("layer_7/sae.safetensors", origin="cdn", method="GET")
    assert (entry.range, entry.status, entry.sent) == ((10, 20), 206, 10)
    assert (entry.authorized, entry.token_tail) == (True, "9999")
    assert hub.log.bytes_sent("sae.safetensors") == 10
    assert hub.log.ranges("sae.safetensors") == [(10, 20)]


def test_it_stops_at_once_while_a_body_stands_still(sae_files: dict[str, Hollow]) -> None:
    hub = LocalHub().start()
    hub.add_repo("alice/sae", sae_files)
    hub.faults.add("sae.safetensors", faults.stall(1000, 600), where="cdn")
    url = cdn(hub)
    waiting = threading.Thread(target=_read_until_it_ends, args=(url,))
    waiting.start()
    while hub.log.bytes_sent("sae.safetensors", "cdn") < 1000:
        time.sleep(0.01)
    start = time.monotonic()
    hub.stop()
    assert time.monotonic() - start < 1
    waiting.join(timeout=1)
    assert not waiting.is_alive()


@pytest.fixture
def sae_files() -> dict[str, Hollow]:
    return {"layer_7/sae.safetensors": WEIGHTS}


def _read_until_it_ends(url: str) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while connection.recv(65536):
            pass


def test_it_runs_on_its_own_with_samples_and_a_log(tmp_path: Path) -> None:
    for name, text in (("one", "1"), ("two", "2"), ("three", "1")):
        (tmp_path / name / "repo").mkdir(parents=True)
        (tmp_path / name / "meta.json").write_text('{"repo_id": "some/saes"}')
        (tmp_path / name / "repo" / "cfg.json").write_text(text)
        (tmp_path / name / "repo" / f"{name}.npz").write_text(text)
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "tests.hub", "--port", "0", "--cdn-port", "0"]
    command += ["--samples", str(tmp_path), "--log", str(log), "--repo", f"my/own={tmp_path}/one"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        rows = json.loads(ask(url + "/api/models/some/saes/tree/main?recursive=true")[1])
        assert ask(url + "/my/own/resolve/main/meta.json", "HEAD")[0].status == 307
        running.terminate()
    paths = [row["path"] for row in rows if row["type"] == "file"]
    assert paths == ["cfg.json", "one.npz", "three.npz", "two/cfg.json", "two/two.npz"]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 307]


def test_it_speaks_https_when_given_a_certificate(tmp_path: Path) -> None:
    tls, trusted = certificate.make(tmp_path)
    with LocalHub(tls=tls) as hub:
        hub.add_repo("alice/sae", {"layer_7/sae.safetensors": WEIGHTS})
        parts = urlsplit(hub.url)
        trust = ssl.create_default_context(cafile=str(trusted))
        connection = HTTPSConnection(parts.netloc, timeout=5, context=trust)
        connection.request("HEAD", WEIGHTS_AT)
        assert connection.getresponse().headers["Location"].startswith("https://127.0.0.1:")
        connection.close()
