"""Our writer against a hub that misbehaves, over real sockets."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from saes import errors, patience
from saes.hub import Hub, HubSource, Listing, RepoRef
from saes.parts import PartFile, open_part
from saes.progress import NotNow
from saes.storage import Library
from saes.transfer import Incoming, Transfer
from tests.hub import Hollow, LocalHub, faults

ID = "sae_0123456789ab"
SIZE = 3_000_000
NAME = "layer_7/sae.safetensors"


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as local:
        local.add_token("hf_alice_1111", "alice")
        local.add_repo("alice/sae", {NAME: Hollow(SIZE, seed=7), "cfg.json": b"{}"})
        yield local


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of a second for each second."""
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.01)


class Download:
    """One file of the local hub on its way to disk, and whoever attends to it."""

    def __init__(self, hub: LocalHub, folder: Path, token: str | None = None) -> None:
        self.client = Hub(hub.url, token)
        self.listing = listing(self.client)
        self.file = self.listing.files[NAME]
        self.shelf = Library(folder)
        self.shelf.open_home(ID)
        self.said: list[str] = []
        self.seen: list[int] = []

    def part(self) -> PartFile:
        return open_part(self.shelf.parts(ID), self.file.expected)

    def run(self) -> Path:
        incoming = [Incoming(self.file, self.part())]
        (done,) = Transfer(self.client, self.listing, incoming, self).files()
        return done.part.publish(self.shelf.source(ID) / "file").path

    @property
    def waits(self) -> list[str]:
        return [why for why in self.said if why]

    def check(self) -> None:
        pass

    def tick(self, done: int) -> None:
        self.seen.append(done)

    def say(self, why: str) -> None:
        self.said.append(why)


def starts(hub: LocalHub) -> list[int]:
    """Where each range that was asked of the file begins."""
    return [asked[0] or 0 for asked in hub.log.ranges(NAME) if asked]


def listing(client: Hub) -> Listing:
    return client.listing(*client.resolve(RepoRef("alice/sae")))


def test_a_whole_file_arrives_in_one_request(hub: LocalHub, tmp_path: Path) -> None:
    download = Download(hub, tmp_path)
    assert download.run().stat().st_size == SIZE
    assert len(hub.log.requests(NAME, origin="cdn", method="GET")) == 1
    assert download.seen == sorted(download.seen)


@pytest.mark.parametrize(
    "action", [faults.cut(1_200_000), faults.reset(1_200_000)], ids=["cut", "reset"]
)
def test_a_broken_connection_goes_on_where_the_part_file_ends(
    hub: LocalHub, tmp_path: Path, action: faults.Action
) -> None:
    hub.faults.add(NAME, action, where="cdn")
    Download(hub, tmp_path).run()
    first, second = starts(hub)
    assert first == 0
    assert 1_200_000 - 2**20 <= second <= 1_200_000


def test_a_download_goes_on_in_another_process(hub: LocalHub, tmp_path: Path) -> None:
    killed = Download(hub, tmp_path)
    url = killed.client.locate(killed.listing, killed.file)
    with killed.client.body(url, 0, 1_000_000) as answer:
        killed.part().write(0, answer.read())
    hub.log.clear()
    Download(hub, tmp_path).run()
    assert starts(hub) == [1_000_000]


def test_an_expired_link_is_asked_for_again(hub: LocalHub, tmp_path: Path) -> None:
    hub.faults.add(NAME, faults.expired_url(), where="cdn")
    download = Download(hub, tmp_path)
    download.run()
    assert len(hub.log.requests(NAME, origin="hub", method="HEAD")) == 2


def test_a_rate_limit_is_waited_for_as_long_as_it_says(hub: LocalHub, tmp_path: Path) -> None:
    hub.faults.add(NAME, faults.status(429, {"Retry-After": "2"}), where="hub")
    download = Download(hub, tmp_path)
    begun = time.monotonic()
    download.run()
    assert time.monotonic() - begun >= 2
    counted = ["rate limited, goes on in 2 s", "rate limited, goes on in 1 s"]
    assert download.waits == [it for it in counted if it in download.waits]
    assert download.waits  # of a busy machine a second may go by unseen


def test_a_long_rate_limit_makes_room_for_other_work(hub: LocalHub, tmp_path: Path) -> None:
    hub.faults.add(NAME, faults.status(429, {"Retry-After": "900"}), where="cdn")
    with pytest.raises(NotNow) as why:
        Download(hub, tmp_path).run()
    assert (why.value.resource, round(why.value.seconds)) == ("hub", 900)


def test_corrupt_bytes_are_found_by_their_hash(hub: LocalHub, tmp_path: Path) -> None:
    hub.faults.add(NAME, faults.corrupt(123_456), where="cdn")
    with pytest.raises(errors.HashMismatch):
        Download(hub, tmp_path).run()


@pytest.mark.parametrize(
    "action",
    [
        faults.ignore_range(),
        faults.wrong_content_range("bytes 5-9/3000000"),
        faults.html_login_page(),
    ],
    ids=["whole file", "other range", "login page"],
)
def test_an_answer_that_is_not_the_part_asked_for_is_refused(
    hub: LocalHub, tmp_path: Path, action: faults.Action
) -> None:
    hub.faults.add(NAME, action, where="cdn", times=None)
    with pytest.raises(errors.HubMisbehaved):
        Download(hub, tmp_path).run()


def test_another_file_under_the_same_name_is_refused(hub: LocalHub, tmp_path: Path) -> None:
    hub.faults.add(NAME, faults.changed_etag("0" * 64), where="hub", times=None)
    with pytest.raises(errors.HubMisbehaved, match="other bytes"):
        Download(hub, tmp_path).run()


def test_a_hub_that_stays_away_is_given_up_with_the_part_kept(
    hub: LocalHub, tmp_path: Path
) -> None:
    hub.faults.add(NAME, faults.status(503), where="cdn", times=None, skip=0)
    download = Download(hub, tmp_path)
    with pytest.raises(errors.HubUnreachable) as caught:
        download.run()
    assert f"{patience.ATTEMPTS} times in a row" in str(caught.value)
    assert len(download.waits) == patience.ATTEMPTS - 1


def test_the_token_goes_to_the_hub_and_never_to_the_other_host(
    hub: LocalHub, tmp_path: Path
) -> None:
    Download(hub, tmp_path, "hf_alice_1111").run()
    assert all(entry.authorized for entry in hub.log.requests(NAME, origin="hub"))
    assert not any(entry.authorized for entry in hub.log.requests(origin="cdn"))


def test_a_listing_that_leads_to_another_host_is_refused(hub: LocalHub) -> None:
    with LocalHub() as other:
        hub.faults.add("tree", faults.next_page(f"{other.url}/api/models/alice/sae/tree/main"))
        with pytest.raises(errors.HubMisbehaved):
            listing(Hub(hub.url, "hf_alice_1111"))
        assert other.log.requests() == []


def test_a_small_file_is_read_with_the_token_at_its_own_origin(hub: LocalHub) -> None:
    client = Hub(hub.url, "hf_alice_1111")
    assert HubSource(client, listing(client)).text("cfg.json") == "{}"
