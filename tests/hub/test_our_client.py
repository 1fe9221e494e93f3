"""Our own client, with the limits that it gives to the real one: patience, limits and stores."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest

from saes import errors
from saes.hub import Hub, http
from saes.hub.limits import retry_after
from tests.hub import LocalHub, certificate, faults, upload_faults
from tests.hub.faults import Action
from tests.hub.shipping import LARGE, REPO, TOKEN, our_client, ours, sent

__all__ = ["our_client", "ours"]

# --- how long is waited ---------------------------------------------------------------------------


@pytest.fixture
def impatient(ours: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", httpx2.Timeout(0.3, connect=http.CONNECT))
    huggingface_hub.close_session()


@pytest.mark.usefixtures("impatient")
def test_a_commit_that_takes_the_hub_long_is_waited_for(ours: Hub, hub: LocalHub) -> None:
    fault = hub.faults.add("/commit/main", upload_faults.late_answer(1.0))
    assert sent(ours, hub).commit == hub.repo(REPO).sha
    assert fault.hits == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("at", ["/preupload/", "/commit/main"])
def test_a_write_is_not_waited_for_longer_than_its_call_may_take(
    ours: Hub, hub: LocalHub, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr("saes.hub.sending.COMMIT_SECONDS", 0.5)
    hub.faults.add(at, upload_faults.late_answer(5.0), times=None)
    with pytest.raises(errors.HubUnreachable):
        sent(ours, hub)


@pytest.mark.usefixtures("impatient")
def test_a_question_that_only_reads_is_given_up_as_before(ours: Hub, hub: LocalHub) -> None:
    hub.faults.add("/api/whoami", upload_faults.late_answer(5.0), times=None)
    with pytest.raises(errors.HubUnreachable):
        ours.whoami()


# --- limits ---------------------------------------------------------------------------------------

# Retry-After and RateLimit, and the seconds that are waited; None: as if the Hub had said nothing.
LIMITS: list[tuple[str, str, float | None]] = [
    ("", '"api";r=0;t=255', 255),
    ("soon", '"api" ; r = 0 ; t = 255', 255),
    ("40", '"api";r=0;t=255', 40),
    *((f"Thu, 01 Jan 2026 00:00:00 +{'9' * many}", '"api";r=0;t=255', 255) for many in (30, 9_000)),
    ("", '"pages";r=7;t=900, "api";r=0;t=30', 30),
    ("", '"pages";r=0;t=20, "api";r=0;t=30', 30),
    ("", '"api";r=5;t=255', None),
    ("", '"api";r=0;t=86400', 3600),
    ("", '"api";r=0;t=' + "9" * 9_000, 3600),
    *(("", value, None) for value in (
        "", "api", '"api";r=0;t=-5', '"api";r=0;t=soon', '"api";r=0;t=', ";" * 9_000,
        '"api";r=' + " " * 9_000, '"api";r=0;t=\u0664\u0660',
    )),
]  # fmt: skip


@pytest.mark.parametrize(("after", "limit", "seconds"), LIMITS)
def test_without_a_usable_retry_after_the_limits_own_reset_counts(
    after: str, limit: str, seconds: float | None
) -> None:
    headers = httpx2.Headers({"Retry-After": after, "RateLimit": limit}, encoding="utf-8")
    assert retry_after(headers) == seconds


def test_a_rate_limit_of_the_hub_is_waited_for_until_its_reset(hub: LocalHub, ours: Hub) -> None:
    told = {"RateLimit": '"api";r=0;t=255', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
    hub.faults.add("/api/whoami", faults.status(429, told), times=None)
    with pytest.raises(errors.RateLimited, match="wait 255 s") as limited:
        ours.whoami()
    assert limited.value.retry_after == 255


# --- the store of large files ---------------------------------------------------------------------


def storing_at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(LocalHub, "cdn_url", property(lambda self: address))


def test_a_file_for_a_hub_of_https_is_not_sent_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = certificate.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with LocalHub(tls=tls) as hub, LocalHub() as other:
        hub.add_token(TOKEN, "alice", "write")
        ours = Hub(hub.url, TOKEN)
        ours.create(REPO, private=True)
        storing_at(monkeypatch, other.url)
        with pytest.raises(errors.HubMisbehaved, match="not asked by https"):
            sent(ours, hub, LARGE)
        assert other.log.requests() == []


def flipping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of `example` mean a host of the internet, and this machine once one connects."""
    true = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *given: Any, **more: Any) -> Any:
        known = "127.0.0.1" if port else "93.184.216.34"
        named = str(host).endswith(".example")
        return true(known if named else host, port, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("answer", [faults.status(200), faults.status(429), faults.status(503)])
def test_a_store_whose_name_flips_to_an_inner_host_is_not_listened_to(
    ours: Hub, hub: LocalHub, monkeypatch: pytest.MonkeyPatch, answer: Action
) -> None:
    flipping(monkeypatch)
    storing_at(monkeypatch, hub.cdn_url.replace("127.0.0.1", "store.example"))
    fault = hub.faults.add("", answer, where="cdn", method="PUT", times=None)
    with pytest.raises(errors.HubMisbehaved, match="not on the internet"):
        sent(Hub(hub.url.replace("127.0.0.1", "hub.example"), TOKEN), hub, LARGE)
    assert fault.hits == 1


def test_a_mirror_inside_keeps_its_files_inside(
    ours: Hub, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    flipping(monkeypatch)
    storing_at(monkeypatch, hub.cdn_url.replace("127.0.0.1", "store.example"))
    assert sent(ours, hub, LARGE).commit == hub.repo(REPO).sha
