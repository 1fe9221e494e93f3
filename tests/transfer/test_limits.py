"""Row S27: what a host asks to wait, how long that is, and that every process keeps to it."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from saes import errors
from saes.hub import Hub, Limits, RepoRef, limits
from saes.patience import pause_after
from saes.progress import NotNow
from tests.hub import Hollow, LocalHub, faults
from tests.transfer.downloading import REPO, Arriving

HOST = "huggingface.co:443"
NAME = "sae.safetensors"


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "limits"


@pytest.fixture(autouse=True)
def repo(hub: LocalHub) -> None:
    hub.add_repo(REPO, {NAME: Hollow(700_000, seed=3), "cfg.json": b"{}"})


# Retry-After, and the seconds that are waited; None: as if the host had said nothing.
ASKED: dict[str, float | None] = {
    "40": 40, " 40 ": 40, "0": 0, "3600": 3600, "86400": 3600, "9" * 400: 3600,
    "-5": None, "+5": None, "1.5": None, "soon": None, "": None, "٤٠": None, "nan": None,
    "1e9": None, "40, 50": None, "Thu, 99 Xyz 2026 99:99:99 GMT": None,
}  # fmt: skip


@pytest.mark.parametrize("said", ASKED)
def test_s27_retry_after_is_a_whole_number_and_never_more_than_an_hour(said: str) -> None:
    expected = ASKED[said]
    found = limits.retry_after({"retry-after": said})
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(expected, abs=0.01)


RESET: dict[str, float | None] = {
    '"api";r=0;t=255': 255, '"resolvers";r=0;t=9': 9, '"api";r=0;t=86400': 3600,
    f'"api";r=0;t={"9" * 5000}': 3600, '"a";r=0;t=5, "b";r=0;t=9': 9, '"api";r=3;t=9': None,
    '"api";r=0;t=-5': None, "api": None, "": None,
}  # fmt: skip


@pytest.mark.parametrize("said", RESET)
def test_s27_without_retry_after_the_limit_says_when_it_begins_anew(said: str) -> None:
    assert limits.retry_after({"ratelimit": said}) == RESET[said]
    assert limits.retry_after({"retry-after": "7", "ratelimit": said}) == 7


@pytest.mark.parametrize(("ahead", "expected"), [(90, 90), (86400, 3600), (-90, None)])
def test_s27_a_date_in_retry_after_is_so_many_seconds_away(
    ahead: float, expected: float | None
) -> None:
    found = limits.retry_after({"retry-after": in_seconds(ahead)})
    assert found == (None if expected is None else pytest.approx(expected, abs=5))


@pytest.mark.parametrize("said", [None, "-1", "soon"])
def test_s27_without_a_usable_one_the_waits_grow_to_five_minutes(
    folder: Path, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1e9]
    monkeypatch.setattr("time.time", lambda: now[0])
    asked = limits.retry_after({"retry-after": said} if said else {})
    waits = []
    for _ in range(9):
        waits.append(Limits(folder).strike(HOST, asked))
        now[0] += waits[-1] + 1
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    now[0] += limits.FORGOTTEN + 1
    assert Limits(folder).strike(HOST, asked) == 5


def test_a_longer_limit_is_not_shortened_by_a_later_answer(folder: Path) -> None:
    Limits(folder).strike(HOST, 500)
    Limits(folder).strike(HOST, 5)
    assert 490 < Limits(folder).left(HOST) <= 500


def test_hosts_have_limits_of_their_own(folder: Path) -> None:
    Limits(folder).strike(HOST, 50)
    assert Limits(folder).left("cdn-lfs.hf.co:443") == 0
    for strange in ("../../etc/passwd:80", "[::1]:80", "a/b\0c"):
        Limits(folder).strike(strange, 50)
        assert Limits(folder).left(strange) > 0
    assert {it.parent for it in folder.parent.rglob("*") if it.is_file()} == {folder}


@pytest.mark.parametrize("jump", [-86400, 86400])
def test_a_clock_that_is_set_leaves_nobody_waiting_for_a_day(
    folder: Path, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    Limits(folder).strike(HOST, 60)
    true = time.time
    monkeypatch.setattr("time.time", lambda: true() + jump)
    assert Limits(folder).left(HOST) == 0
    assert Limits(folder).strike(HOST, 60) == 60
    assert 59 < Limits(folder).left(HOST) <= 60


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"until"'])
def test_a_note_that_a_kill_left_half_written_limits_nobody(folder: Path, torn: bytes) -> None:
    Limits(folder).strike(HOST, 60)
    (note,) = folder.iterdir()
    note.write_bytes(torn)
    assert Limits(folder).left(HOST) == 0


def test_a_limit_that_cannot_be_noted_is_a_limit_all_the_same(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    assert Limits(folder).strike(HOST, 60) == 60


def test_short_limits_are_waited_for_and_long_ones_make_room() -> None:
    assert pause_after(errors.RateLimited("", 60), 1) == (60, "rate limited")
    assert pause_after(errors.RateLimited("", 0), 1) == (5, "rate limited")
    for seconds in (61, 3600):
        with pytest.raises(NotNow) as why:
            pause_after(errors.RateLimited("", seconds), 1)
        assert (why.value.resource, why.value.seconds) == ("hub", seconds)


# --- shared by all --------------------------------------------------------------------------------

ASK = """
import sys
from pathlib import Path
from saes import errors
from saes.hub import Hub, Limits, RepoRef
try:
    Hub(sys.argv[1], limits=Limits(Path(sys.argv[2]))).resolve(RepoRef("alice/pieces"))
except errors.RateLimited as error:
    sys.stdout.write(f"{error.retry_after:.0f}")
"""


def ask(hub: LocalHub, folder: Path) -> str:
    """Another process asks; the seconds that it was told to wait."""
    command = [sys.executable, "-c", ASK, hub.url, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_limit_that_one_process_is_told_is_kept_by_the_others(
    hub: LocalHub, folder: Path
) -> None:
    hub.faults.add("/api/", faults.status(429, {"Retry-After": "40"}))
    assert ask(hub, folder) == "40"
    assert int(ask(hub, folder)) in range(25, 41)
    with pytest.raises(errors.RateLimited, match=r"127\.0\.0\.1 asks to wait \d\d s"):
        Hub(hub.url, limits=Limits(folder)).resolve(RepoRef(REPO))
    assert [it.status for it in hub.log.requests()] == [429]


@pytest.mark.parametrize("place", ["hub", "cdn"])
def test_a_limit_of_the_hub_is_none_of_its_file_host(
    hub: LocalHub, tmp_path: Path, folder: Path, place: str
) -> None:
    download = Arriving(hub, tmp_path, Hub(hub.url, limits=Limits(folder)))
    file = download.listing.files[NAME]
    url = download.client.locate(download.listing, file)
    Limits(folder).strike((hub.url if place == "hub" else hub.cdn_url).partition("//")[2], 50)
    hub.log.clear()
    if place == "cdn":
        with pytest.raises(errors.RateLimited), download.client.body(url, 0, 9):
            pass
        download.client.locate(download.listing, file)
    else:
        with pytest.raises(errors.RateLimited):
            download.client.locate(download.listing, file)
        with download.client.body(url, 0, 9) as answer:
            assert len(answer.read()) == 9
    assert {it.origin for it in hub.log.requests()} == {"hub" if place == "cdn" else "cdn"}
