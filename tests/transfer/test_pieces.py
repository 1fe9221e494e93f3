"""Large files: pieces over several connections, killed on the way, each byte fetched once."""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from saes import errors, parts, transfer
from saes.parts import PartFile, open_part
from saes.storage import Expected
from saes.transfer import CONNECTIONS
from tests.apps import wait_for
from tests.hub import Hollow, LocalHub, faults
from tests.hub.blobs import Bytes
from tests.hub.log import Entry
from tests.transfer.conftest import PIECE
from tests.transfer.downloading import ID, REPO, Arriving

LARGE = 150 * 2**20
NAME = "sae.safetensors"
FETCH = """
import sys
from pathlib import Path
from types import SimpleNamespace
from tests.transfer.downloading import Arriving
Arriving(SimpleNamespace(url=sys.argv[1]), Path(sys.argv[2])).run()
"""
Range = tuple[int, int]


@pytest.fixture
def large() -> Iterator[LocalHub]:
    with LocalHub(bytes_per_second=25_000_000) as hub:
        hub.add_repo(REPO, {NAME: Hollow(LARGE, seed=4)})
        yield hub


def fetching(hub: LocalHub, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", FETCH, hub.url, str(folder)])


def bodies(hub: LocalHub) -> list[Entry]:
    return hub.log.requests(NAME, "cdn", "GET")


def gaps(folder: Path) -> list[Range]:
    """What the record says is missing. It is read beside a process that may be at work."""
    if (folder / "saes" / ID / "source" / NAME).exists():
        return []
    pieces = range(0, LARGE, parts.PIECE)
    noted = [0] * len(pieces)
    with suppress(OSError, StopIteration):
        record = next((folder / "saes" / ID / "parts").glob("*.pieces")).read_bytes()
        noted = [number for (number,) in struct.iter_unpack("<Q", record)][1:] or noted
    missing = (
        (at + there, min(at + parts.PIECE, LARGE)) for at, there in zip(pieces, noted, strict=True)
    )
    return [(start, stop) for start, stop in missing if start < stop]


def missing(folder: Path) -> int:
    return sum(stop - start for start, stop in gaps(folder))


def test_a_large_file_survives_kills_and_no_noted_byte_is_fetched_again(
    large: LocalHub, tmp_path: Path
) -> None:
    for left in (120, 50, -1):  # MB
        before = gaps(tmp_path)
        large.log.clear()
        with fetching(large, tmp_path) as worker:
            wait_for(lambda: bodies(large))
            wait_for(lambda: missing(tmp_path) <= left * 10**6 or worker.poll() is not None)  # noqa: B023
            worker.kill()
        ranges = [it.range for it in bodies(large) if it.range]
        assert set(ranges) <= set(before), "each continues a gap of the record"
        assert len(set(ranges)) == len(ranges)
    assert (tmp_path / "saes" / ID / "source" / NAME).stat().st_size == LARGE
    assert not list((tmp_path / "saes" / ID / "parts").iterdir())


def test_several_pieces_come_at_the_same_time(large: LocalHub, tmp_path: Path) -> None:
    with fetching(large, tmp_path) as worker:
        wait_for(lambda: sum(0 < it.sent < parts.PIECE for it in bodies(large)) == CONNECTIONS)
        worker.kill()
    assert len(bodies(large)) == CONNECTIONS


# --- files of several pieces, made small ----------------------------------------------------------

SIZE = 3_000_000


@pytest.fixture
def small(hub: LocalHub, small_pieces: None, short_pauses: None) -> LocalHub:
    hub.add_repo(REPO, {NAME: Hollow(SIZE, seed=7)})
    return hub


@pytest.mark.parametrize(
    "size", [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE - 1], ids=lambda it: f"{it} bytes"
)
def test_a_file_of_any_size_is_whole(small: LocalHub, tmp_path: Path, size: int) -> None:
    small.add_repo(REPO, {NAME: Hollow(size, seed=5)})
    (path,) = Arriving(small, tmp_path).run()
    assert path.read_bytes() == Hollow(size, seed=5).read(0, size)
    assert len(bodies(small)) == -(-size // PIECE)


def test_a_file_without_a_byte_is_whole_at_once(small: LocalHub, tmp_path: Path) -> None:
    small.add_repo(REPO, {NAME: Bytes(b""), "other.safetensors": Hollow(10)})
    paths = Arriving(small, tmp_path).run()
    assert sorted(it.stat().st_size for it in paths) == [0, 10]
    assert bodies(small) == []


def test_many_files_come_over_a_few_connections(small: LocalHub, tmp_path: Path) -> None:
    small.add_repo(REPO, {f"{n}.safetensors": Hollow(20_000, seed=n) for n in range(60)})
    download = Arriving(small, tmp_path)
    assert len(download.run()) == 60
    assert len(small.log.requests(origin="cdn")) == 60


def test_a_piece_that_always_breaks_does_not_stop_the_others(
    small: LocalHub, tmp_path: Path
) -> None:
    small.faults.add(lambda it: it.asked == (PIECE, 2 * PIECE), faults.cut(0), times=None)
    download = Arriving(small, tmp_path)
    with pytest.raises(errors.HubUnreachable):
        download.run()
    assert download.seen[-1] == SIZE - PIECE
    small.faults.clear()
    small.log.clear()
    (path,) = Arriving(small, tmp_path).run()
    assert path.stat().st_size == SIZE
    assert [it.range for it in bodies(small)] == [(PIECE, 2 * PIECE)]


def test_an_attendant_that_stops_ends_every_connection_at_once(
    small: LocalHub, tmp_path: Path
) -> None:
    small.faults.add(lambda it: it.asked is not None, faults.slow(20_000), times=None)
    download = Arriving(small, tmp_path)
    download.stop_at = 100_000
    download.stop()
    assert download.stopped_after < 15  # it would take twice as long
    wait_for(lambda: all(it.done for it in bodies(small)))


# --- what an earlier process left -----------------------------------------------------------------


def left(folder: Path, data: bytes | None, record: bytes | None) -> PartFile:
    """A part file of SIZE bytes, and its record, as they were found."""
    true = Hollow(SIZE, seed=7)
    expected = Expected(SIZE, sha256=true.sha256)
    place = folder / "saes" / ID / "parts"
    place.mkdir(parents=True)
    if data is not None:
        (place / expected.oid).write_bytes(data)
    if record is not None:
        (place / f"{expected.oid}.pieces").write_bytes(record)
    return open_part(place, expected)


def counts(*numbers: int, piece: int = PIECE) -> bytes:
    return struct.pack("<7Q", piece, *numbers)


WHOLE = Hollow(SIZE, seed=7).read(0, SIZE)
FULL = (PIECE,) * 6
# The file, its record, and the bytes that count as there.
LEFT: dict[str, tuple[bytes | None, bytes | None, int]] = {
    "nothing": (None, None, 0),
    "an empty file": (b"", b"", 0),
    "a record alone": (None, counts(*FULL), 0),
    "a file without its record": (WHOLE[: PIECE + 7], None, 0),
    "a file that is too long": (WHOLE + b"x", counts(*FULL), 0),
    "a file that ends before its record": (WHOLE[: 2 * PIECE], counts(*FULL), 2 * PIECE),
    "a record of other pieces": (WHOLE, counts(*FULL, piece=77), 0),
    "gaps": (WHOLE, counts(PIECE, 0, 5, PIECE, 0, PIECE), 3 * PIECE + 5),
    "all of it": (WHOLE, counts(*FULL), SIZE),
    "a record of more than there can be": (WHOLE, counts(*[2**63] * 6), SIZE),
}


@pytest.mark.parametrize("what", LEFT)
def test_whatever_was_left_the_file_becomes_whole(
    small: LocalHub, tmp_path: Path, what: str
) -> None:
    data, record, there = LEFT[what]
    assert left(tmp_path, data, record).size == there
    (path,) = Arriving(small, tmp_path).run()
    assert path.read_bytes() == WHOLE
    assert sum(it.sent for it in bodies(small)) == SIZE - there


def test_the_end_of_a_file_comes_first_and_then_the_rest_in_order(
    small: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CONNECTIONS", 1)
    Arriving(small, tmp_path).run()
    begins = [it.range[0] for it in bodies(small) if it.range]
    assert begins == [5 * PIECE, *range(0, 5 * PIECE, PIECE)]


def test_what_came_before_a_cut_is_written_also_where_it_is_little(
    small: LocalHub, tmp_path: Path
) -> None:
    cut = small.faults.add(NAME, faults.cut(70_000), where="cdn", times=3)
    Arriving(small, tmp_path).run()
    assert cut.hits == 3
    assert sum(it.sent for it in bodies(small)) == SIZE


@pytest.mark.parametrize("there", ["a link", "a folder", "a pipe"])
@pytest.mark.parametrize("name", ["the part", "its record"])
def test_a_part_file_that_is_none_is_not_followed(
    small: LocalHub, tmp_path: Path, there: str, name: str
) -> None:
    oid = Hollow(SIZE, seed=7).sha256
    place = tmp_path / "saes" / ID / "parts" / (oid if name == "the part" else f"{oid}.pieces")
    place.parent.mkdir(parents=True)
    canary = tmp_path / "canary"
    canary.write_bytes(b"mine")
    if there == "a link":
        place.symlink_to(canary)
    elif there == "a folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    with pytest.raises(errors.SaeError):
        Arriving(small, tmp_path).run()
    assert canary.read_bytes() == b"mine"
