"""Each thing that can go wrong, seen from a socket."""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.hub import Forged, Hollow, LocalHub, faults
from tests.hub.answers import Request
from tests.hub.faults import Action

BODY = Hollow(500_000, seed=3)
TREE = "/api/models/a/b/tree/main"


OPEN: list[HTTPConnection] = []


@pytest.fixture(autouse=True)
def closed_connections() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture(params=["invented", "on disk"])
def body(request: pytest.FixtureRequest, tmp_path: Path) -> Hollow | Path:
    """The kernel sends what is on disk: it has to suffer all the same."""
    if request.param == "invented":
        return BODY
    path = tmp_path / "x.npz"
    path.write_bytes(BODY.read(0, BODY.size))
    return path


@pytest.fixture
def url(hub: LocalHub, body: Hollow | Path) -> Iterator[str]:
    hub.add_repo("a/b", {"x.npz": body, "small.json": b"{}" * 2000})
    yield ask(hub.url + "/a/b/resolve/main/x.npz").headers["Location"]


def ask(url: str, **headers: str) -> HTTPResponse:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=5)
    OPEN.append(connection)
    connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
    return connection.getresponse()


def broken(hub: LocalHub, url: str, action: Action, **headers: str) -> HTTPResponse:
    hub.faults.add("x.npz", action, where="cdn")
    return ask(url, **headers)


def test_a_fault_happens_as_often_as_ordered(hub: LocalHub, url: str) -> None:
    fault = hub.faults.add(match="x.npz", where="cdn", action=faults.status(503), skip=1, times=2)
    assert [ask(url).status for _ in range(5)] == [200, 503, 503, 200, 200]
    assert fault.hits == 2


def test_a_fault_may_choose_its_requests_itself(hub: LocalHub, url: str) -> None:
    def late(request: Request) -> bool:
        return request.asked is not None and (request.asked[0] or 0) > 100

    hub.faults.add(late, faults.status(500), times=None)
    assert ask(url, Range="bytes=5-9").status == 206
    assert ask(url, Range="bytes=500-900").status == 500
    hub.faults.clear()
    assert ask(url, Range="bytes=500-900").status == 206


def test_a_status_comes_with_headers(hub: LocalHub, url: str) -> None:
    response = broken(hub, url, faults.status(429, {"Retry-After": "2"}))
    assert (response.status, response.headers["Retry-After"]) == (429, "2")


@pytest.mark.parametrize("after", [0, 1, 1000, 499_999])
def test_a_cut_closes_the_connection_in_order(hub: LocalHub, url: str, after: int) -> None:
    with pytest.raises(IncompleteRead) as failed:
        broken(hub, url, faults.cut(after)).read()
    assert failed.value.partial == BODY.read(0, after)
    assert hub.log.bytes_sent("x.npz", "cdn") == after


def test_a_reset_is_a_reset(hub: LocalHub, url: str) -> None:
    parts = urlsplit(url)
    hub.faults.add("x.npz", faults.reset(1000), where="cdn")
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = b""
        with pytest.raises(ConnectionResetError):
            while piece := connection.recv(65536):
                got += piece
    assert got.endswith(BODY.read(0, 1000))


def test_a_stall_stands_still_and_goes_on(hub: LocalHub, url: str) -> None:
    start = time.monotonic()
    assert broken(hub, url, faults.stall(1000, 0.3)).read() == BODY.read(0, BODY.size)
    assert time.monotonic() - start >= 0.3


def test_a_slow_body_takes_its_time(hub: LocalHub, url: str) -> None:
    start = time.monotonic()
    assert len(broken(hub, url, faults.slow(1_000_000)).read()) == BODY.size
    assert 0.4 < time.monotonic() - start < 1.5


def test_one_byte_is_flipped_in_the_body_that_holds_it(hub: LocalHub, url: str) -> None:
    hub.faults.add("x.npz", faults.corrupt(300_000), where="cdn")
    assert ask(url, Range="bytes=0-9").read() == BODY.read(0, 10)
    part = ask(url, Range="bytes=299999-300001").read()
    assert part[1] == BODY.read(300_000, 300_001)[0] ^ 0xFF
    assert part[::2] == BODY.read(299_999, 300_002)[::2]


def test_a_range_is_ignored(hub: LocalHub, url: str) -> None:
    response = broken(hub, url, faults.ignore_range(), Range="bytes=100-")
    assert (response.status, response.headers["Content-Range"]) == (200, None)
    assert response.read() == BODY.read(0, BODY.size)


def test_another_range_is_claimed(hub: LocalHub, url: str) -> None:
    response = broken(hub, url, faults.wrong_content_range(), Range="bytes=100-199")
    assert response.headers["Content-Range"] == "bytes 0-99/500000"
    assert response.read() == BODY.read(100, 200)


def test_another_length_is_claimed(hub: LocalHub, url: str) -> None:
    with pytest.raises(IncompleteRead):
        broken(hub, url, faults.wrong_length(600_000)).read()
    assert len(broken(hub, url, faults.wrong_length(10)).read()) == 10


def test_a_forged_size_ends_early(hub: LocalHub) -> None:
    hub.add_repo("evil/size", {"x.npz": Forged(b"true", size=9)})
    moved = ask(hub.url + "/evil/size/resolve/main/x.npz").headers["Location"]
    with pytest.raises(IncompleteRead) as failed:
        ask(moved).read()
    assert failed.value.partial == b"true"


def test_a_login_page_comes_instead(hub: LocalHub, url: str) -> None:
    response = broken(hub, url, faults.html_login_page())
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/html")


def test_an_address_has_expired(hub: LocalHub, url: str) -> None:
    assert broken(hub, url, faults.expired_url()).status == 403
    assert ask(url).status == 200


def test_the_file_was_replaced_meanwhile(hub: LocalHub, url: str) -> None:
    response = broken(hub, url, faults.changed_etag("new"), Range="bytes=5-")
    assert (response.status, response.headers["ETag"]) == (206, '"new"')
    hub.faults.add("x.npz", faults.changed_etag("new"), where="hub")
    assert ask(hub.url + "/a/b/resolve/main/x.npz").headers["X-Linked-Etag"] == '"new"'


def test_headers_are_set_and_removed(hub: LocalHub, url: str) -> None:
    change = {"content-disposition": 'attachment; filename="..\\evil"', "ETag": None}
    response = broken(hub, url, faults.headers(change))
    assert response.headers["Content-Disposition"].endswith('"..\\evil"')
    assert response.headers["ETag"] is None


def test_a_body_is_compressed_on_the_way(hub: LocalHub, url: str) -> None:
    response = broken(hub, url, faults.gzipped())
    assert (response.headers["Content-Encoding"], response.headers["Content-Length"]) == (
        "gzip",
        None,
    )
    assert zlib.decompress(response.read(), 31) == BODY.read(0, BODY.size)


@pytest.mark.parametrize("declared", [None, 500_000])
def test_a_bomb_is_small_on_the_wire(hub: LocalHub, url: str, declared: int | None) -> None:
    response = broken(hub, url, faults.gzip_bomb(20_000_000, declared))
    try:
        packed = response.read()
    except IncompleteRead as short:
        packed = short.partial
    assert len(packed) < 30_000
    assert len(zlib.decompress(packed, 31)) == 20_000_000


def test_a_body_has_no_end(hub: LocalHub, url: str) -> None:
    response = broken(hub, url, faults.endless())
    assert len(response.read(5_000_000)) == 5_000_000
    response.close()


def test_the_next_page_is_this_one_or_elsewhere(hub: LocalHub, url: str) -> None:
    hub.faults.add("/tree/", faults.next_page())
    assert ask(hub.url + TREE).headers["Link"].startswith(f"<{hub.url}{TREE}")
    hub.faults.add("/tree/", faults.next_page(hub.cdn_url + "/steal"))
    assert ask(hub.url + TREE).headers["Link"] == f'<{hub.cdn_url}/steal>; rel="next"'


def test_a_redirect_leads_elsewhere(hub: LocalHub, url: str) -> None:
    hub.faults.add("x.npz", faults.redirect("http://localhost:1{target}", 307), where="hub")
    response = ask(hub.url + "/a/b/resolve/main/x.npz")
    assert response.status == 307
    assert response.headers["Location"].startswith("http://localhost:1/a/b/resolve/main/x.npz")
    assert response.headers["X-Linked-Size"] == "500000"


def test_what_comes_to_another_origin_is_logged_whatever_it_is(hub: LocalHub) -> None:
    ask(hub.cdn_url + "/steal", Authorization="Bearer hf_secret_9999")
    (entry,) = hub.log.requests("/steal", origin="cdn")
    assert (entry.status, entry.token_tail) == (404, "9999")
