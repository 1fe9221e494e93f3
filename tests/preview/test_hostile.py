"""A hub that means harm: listings without an end, bombs, and places to send the token to."""

import threading
import time
import tracemalloc
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from saes import errors, preview
from saes.hub import Hub, RepoRef, client
from tests.hub import LocalHub, certificate, faults
from tests.hub.answers import Answer, as_json
from tests.hub.answers import Request as Asked
from tests.hub.faults import Action
from tests.jobs.conftest import sample_files

REPO = "google/gemma-scope-2b-pt-res"
WHERE = "layer_12/width_16k/average_l0_41"
TOKEN = "hf_alice_1111"


@pytest.fixture
def repo(hub: LocalHub) -> str:
    hub.add_repo(REPO, sample_files("gemma_scope_1_res"))
    return REPO


def look(hub: LocalHub) -> preview.Preview:
    return preview.look(Hub(hub.url, TOKEN), RepoRef(REPO), "me")


def endless(rows: Callable[[int], list[dict[str, object]]]) -> Action:
    """Pages of a listing that go on for ever."""
    numbers = count()

    def change(request: Asked, answer: Answer) -> Answer:
        made = as_json(rows(next(numbers)))
        made.headers["Link"] = f'<{request.base}{request.target}>; rel="next"'
        return made

    return Action(change)


def row(kind: str, path: str) -> dict[str, object]:
    return {"type": kind, "path": path, "size": 1, "oid": "a" * 40}


ENDLESS: dict[str, Callable[[int], list[dict[str, object]]]] = {
    "the same page": lambda n: [row("file", "a.npz")],
    "new files": lambda n: [row("file", f"{n}/{i}.npz") for i in range(50)],
    "folders": lambda n: [row("directory", f"{n}")],
    "empty pages": lambda n: [],
    "unsafe names": lambda n: [row("file", f"../{n}")],
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_listing_without_an_end_is_given_up(
    hub: LocalHub, repo: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LISTING_SECONDS", 1)
    hub.faults.add("/tree/", endless(ENDLESS[kind]), times=None)
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            look(hub)
        except errors.SaeError as error:
            caught.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout=60)
    ended = not asking.is_alive()
    hub.faults.clear()
    asking.join(timeout=60)
    assert ended
    assert isinstance(caught[0], errors.HubMisbehaved)


def test_a_listing_of_too_many_files_is_given_up(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_FILES", 100)
    hub.add_repo(REPO, {f"{n}.npz": b"x" for n in range(101)})
    with pytest.raises(errors.HubMisbehaved, match="does not end"):
        look(hub)


def test_a_next_page_on_another_host_is_not_asked_for(hub: LocalHub, repo: str) -> None:
    with LocalHub() as other:
        hub.faults.add("/tree/", faults.next_page(f"{other.url}/api/models/x/y/tree/main"))
        with pytest.raises(errors.HubMisbehaved):
            look(hub)
        assert other.log.requests() == []


@pytest.mark.parametrize("at", ["/tree/", "/api/models/google"])
@pytest.mark.parametrize("declared", [None, 10_000])
def test_a_listing_that_unpacks_to_a_bomb_costs_no_memory(
    hub: LocalHub, repo: str, at: str, declared: int | None
) -> None:
    hub.faults.add(at, faults.gzip_bomb(500_000_000, declared), times=None)
    tracemalloc.start()
    try:
        with pytest.raises(errors.SaeError):
            look(hub)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150_000_000


def test_a_listing_that_trickles_is_given_up(
    hub: LocalHub, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LISTING_SECONDS", 1)
    hub.faults.add("/tree/", faults.slow(40), times=None)
    begun = time.monotonic()
    with pytest.raises(errors.SaeError):
        look(hub)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    "action",
    [faults.gzip_bomb(10**9), faults.endless(), faults.ignore_range(), faults.html_login_page(),
     faults.wrong_content_range(), faults.gzipped()],
    ids=["bomb", "endless", "whole file", "login", "other range", "gzip"],
)  # fmt: skip
def test_a_header_comes_as_it_was_asked_for_or_not_at_all(
    hub: LocalHub, repo: str, action: Action
) -> None:
    found = look(hub)
    hub.faults.add("params.npz", action, where="cdn", times=None)
    begun = time.monotonic()
    try:
        info = found.header(WHERE)
    except (errors.HubMisbehaved, errors.HubUnreachable):
        pass
    else:
        assert info.get("d_sae") == 64
    assert time.monotonic() - begun < 60


# --- where the token goes -------------------------------------------------------------------------


def test_the_token_goes_to_the_hub_and_not_to_its_cdn(hub: LocalHub, repo: str) -> None:
    look(hub).header(WHERE)
    assert all(entry.authorized for entry in hub.log.requests(origin="hub"))
    assert hub.log.requests(origin="cdn")
    assert not any(entry.authorized for entry in hub.log.requests(origin="cdn"))


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("at", ["/tree/", "/api/models/google", "/resolve/"])
def test_a_redirect_to_another_host_gets_no_token(
    hub: LocalHub, repo: str, at: str, code: int
) -> None:
    """The CDN is the other host here; `localhost` is another name of the same machine."""
    for place in (hub.cdn_url, hub.url.replace("127.0.0.1", "localhost")):
        preview._previews.clear()
        hub.log.clear()
        away = faults.redirect(f"{place}/steal{{target}}", code)
        fault = hub.faults.add(
            lambda asked: at in asked.path and "steal" not in asked.path, away, times=None
        )
        with pytest.raises(errors.SaeError):
            look(hub).header(WHERE)
        assert fault.hits
        hub.faults.clear()
        assert not any(entry.authorized for entry in hub.log.requests("steal"))


def test_a_redirect_from_https_to_http_gets_no_token(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    tls, trusted = certificate.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    huggingface_hub.close_session()
    try:
        with LocalHub(tls=tls) as safe:
            safe.add_repo(REPO, sample_files("gemma_scope_1_res"))
            safe.add_token(TOKEN, "alice")
            for at in ("/tree/", "/api/models/google", "/resolve/"):
                preview._previews.clear()
                away = faults.redirect(f"{hub.cdn_url}/steal{{target}}")
                safe.faults.add(at, away, where="hub", times=None)
                with pytest.raises(errors.SaeError):
                    look(safe).header(WHERE)
                safe.faults.clear()
            assert safe.log.requests("/tree/"), "the safe hub was reached"
    finally:
        huggingface_hub.close_session()
    assert not any(entry.authorized for entry in hub.log.requests())


def test_a_realm_that_asks_for_the_token_elsewhere_gets_none(hub: LocalHub, repo: str) -> None:
    realm = {"WWW-Authenticate": f'Bearer realm="{hub.cdn_url}/token"'}
    hub.faults.add("/api/models", faults.status(401, realm), times=None)
    with pytest.raises(errors.BadToken):
        look(hub)
    assert hub.log.requests(origin="cdn") == []


def test_no_token_in_the_servers_environment_or_files_is_picked_up(
    hub: LocalHub, repo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_of_this_machine")
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_machine")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_of_this_machine")
    found = preview.look(Hub(hub.url), RepoRef(REPO), "me")
    found.header(WHERE)
    assert not any(entry.authorized for entry in hub.log.requests())
