"""Whatever the Hub's mood: every byte arrives, each of them once, and the bar never goes back."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from saes import errors, patience, transfer
from saes.hub import Hub, Limits, http, limits
from saes.progress import NotNow
from tests.hub import Forged, Hollow, LocalHub, faults
from tests.hub.answers import Answer, Request
from tests.transfer.downloading import REPO, Arriving

pytestmark = pytest.mark.usefixtures("small_pieces", "short_pauses")
SIZE, SHORT = 3_000_000, 3.5
NAME = "sae.safetensors"
IN_FLIGHT = 4 * 2**20  # what sockets hold of four connections that break


@pytest.fixture(autouse=True)
def files(hub: LocalHub) -> None:
    hub.add_repo(REPO, {NAME: Hollow(SIZE, seed=7), "cfg.json": b"{}"})


def weights(origin: str, method: str = "GET") -> Callable[[Request], bool]:
    return lambda it: it.origin == origin and it.method == method and NAME in it.file


def begins_at(start: int) -> Callable[[Request], bool]:
    return lambda it: it.asked is not None and it.asked[0] == start


MOODS: dict[str, list[tuple[str, str, faults.Action]]] = {
    "cut": [("cdn", "GET", faults.cut(100_000))] * 3,
    "cut at once": [("cdn", "GET", faults.cut(0))] * 3,
    "cut before the last byte": [("cdn", "GET", faults.cut(499_999))] * 3,
    "reset": [("cdn", "GET", faults.reset(200_000))] * 3,
    "5xx on the body": [("cdn", "GET", faults.status(code)) for code in (500, 502, 503, 504)],
    "5xx on HEAD": [("hub", "HEAD", faults.status(code)) for code in (500, 503)],
    "expired URL": [("cdn", "GET", faults.expired_url())] * 3,
    "404 for a moment": [("cdn", "GET", faults.status(404))] * 2,
    "a length that lies large": [("cdn", "GET", faults.wrong_length(600_000))] * 2,
    "a length that lies small": [("cdn", "GET", faults.wrong_length(100_000))] * 2,
    "all at once": [
        ("hub", "HEAD", faults.status(503)),
        ("cdn", "GET", faults.cut(300_000)),
        ("cdn", "GET", faults.reset(100_000)),
        ("cdn", "GET", faults.expired_url()),
        ("cdn", "GET", faults.status(502)),
    ],
}


@pytest.mark.parametrize("mood", MOODS)
def test_every_byte_arrives_once_and_the_bar_never_goes_back(
    hub: LocalHub, tmp_path: Path, mood: str
) -> None:
    planned = [
        hub.faults.add(weights(origin, method), action, where=origin, method=method)
        for origin, method, action in MOODS[mood]
    ]
    download = Arriving(hub, tmp_path)
    for path in download.run():
        assert path.stat().st_size in (SIZE, 2)
    assert all(fault.hits for fault in planned)
    assert download.seen == sorted(download.seen)
    assert hub.log.bytes_sent(NAME, origin="cdn") <= SIZE + IN_FLIGHT
    assert not list(download.shelf.parts("sae_0123456789ab").iterdir())


def test_a_signed_address_that_expires_on_the_way_is_asked_for_again(tmp_path: Path) -> None:
    with LocalHub(bytes_per_second=600_000, url_lifetime=0.4) as hub:
        hub.add_repo(REPO, {NAME: Hollow(SIZE, seed=8)})
        download = Arriving(hub, tmp_path)
        (path,) = download.run()
        assert path.stat().st_size == SIZE
        refused = [it for it in hub.log.requests(NAME, "cdn") if it.status == 403]
        assert refused
        assert len(hub.log.requests(NAME, "hub", "HEAD")) > 1
        assert hub.log.bytes_sent(NAME, "cdn") <= SIZE + 1000 * len(refused)


# --- connections that stand still -----------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """About six times less patient than it is."""
    monkeypatch.setattr(http, "STALLED", SHORT)
    monkeypatch.setattr(transfer, "WORTH_A_WORD", 0.3)


@pytest.mark.alone  # a server that gets no turn for a second is silent, too
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("action", "told"),
    [(faults.stall(100_000, 60), True), (faults.stall(0, 60), True), (faults.slow(200), False)],
    ids=["in the middle", "before the first byte", "a trickle"],
)
def test_a_connection_that_stands_still_is_given_up_and_the_rest_fetched(
    hub: LocalHub, tmp_path: Path, action: faults.Action, told: bool
) -> None:
    for piece in range(6):  # each one once: nothing comes on any connection
        hub.faults.add(begins_at(piece * 500_000), action)
    download = Arriving(hub, tmp_path)
    begun = time.monotonic()
    download.run()
    assert time.monotonic() - begun < 50
    assert any(why.startswith("No byte for ") for why in download.waits) == told
    assert download.seen == sorted(download.seen)


@pytest.mark.usefixtures("impatient")
def test_good_speed_before_it_does_not_hide_that_a_connection_stands_still(
    hub: LocalHub, tmp_path: Path
) -> None:
    hub.add_repo(REPO, {NAME: Hollow(400_000, seed=9)})
    for action in (faults.slow(1_000_000), faults.stall(300_000, 60)):
        hub.faults.add(weights("cdn"), action)
    download = Arriving(hub, tmp_path)
    download.run()
    assert download.longest_silence < 30


@pytest.mark.usefixtures("impatient")
def test_when_bytes_come_again_the_row_says_so(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "STALLED", 20.0)
    hub.add_repo(REPO, {NAME: Hollow(400_000, seed=9)})
    hub.faults.add(weights("cdn"), faults.stall(200_000, 4))
    download = Arriving(hub, tmp_path)
    download.run()
    assert any(why.startswith("No byte for ") for why in download.said)
    assert download.said[-1] == ""


def test_nothing_is_said_while_bytes_come(hub: LocalHub, tmp_path: Path) -> None:
    download = Arriving(hub, tmp_path)
    download.run()
    assert download.said == []


# --- rate limits ----------------------------------------------------------------------------------


def test_one_burst_of_refusals_is_one_limit(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four connections are told at once, and wait as long as one would have to."""
    monkeypatch.setattr(limits, "FIRST", 1.0)
    barrier, refused = threading.Barrier(4), faults.status(429)

    def together(request: Request, answer: Answer) -> Answer:
        barrier.wait(60)
        return refused.change(request, answer)

    hub.faults.add(weights("cdn"), faults.Action(together), times=4)
    download = Arriving(hub, tmp_path, Hub(hub.url, limits=Limits(tmp_path / "limits")))
    begun = time.monotonic()
    download.run()
    assert 1.0 <= time.monotonic() - begun < 6  # each a limit of its own: eight seconds
    assert set(download.waits) == {"rate limited, goes on in 1 s"}


def test_a_limit_that_lasts_gives_the_worker_back(hub: LocalHub, tmp_path: Path) -> None:
    hub.faults.add(weights("cdn"), faults.status(429, {"Retry-After": "3600"}), times=None)
    with pytest.raises(NotNow) as why:
        Arriving(hub, tmp_path).run()
    assert why.value.seconds == pytest.approx(3600, abs=2)


# --- bytes that are not those ---------------------------------------------------------------------


def test_a_file_that_is_shorter_than_listed_is_never_taken(hub: LocalHub, tmp_path: Path) -> None:
    hub.add_repo(REPO, {NAME: Forged(Hollow(SIZE - 5, seed=7), size=SIZE)})
    with pytest.raises(errors.HubUnreachable, match="8 times in a row"):
        Arriving(hub, tmp_path).run()
    assert not (tmp_path / "saes" / "sae_0123456789ab" / "source").exists()


def test_a_file_that_is_longer_than_listed_is_never_taken(hub: LocalHub, tmp_path: Path) -> None:
    hub.add_repo(REPO, {NAME: Forged(Hollow(SIZE + 5, seed=7), size=SIZE)})
    with pytest.raises(errors.HashMismatch):
        Arriving(hub, tmp_path).run()


def test_another_file_in_the_middle_of_a_resume_ends_it(hub: LocalHub, tmp_path: Path) -> None:
    first = Arriving(hub, tmp_path)
    first.stop_at = 1_000_000
    first.stop()
    hub.faults.add(weights("hub", "HEAD"), faults.changed_etag("0" * 64), times=None)
    with pytest.raises(errors.HubMisbehaved, match="other bytes"):
        Arriving(hub, tmp_path).run()


def test_pauses_grow_and_their_sum_is_two_minutes() -> None:
    broken = errors.HubUnreachable("away")
    pauses = [patience.pause_after(broken, n)[0] for n in range(1, patience.ATTEMPTS)]
    assert pauses == sorted(pauses)
