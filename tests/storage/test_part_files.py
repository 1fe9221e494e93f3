"""Part files: they go on where they were, and nothing is published that is not whole."""

import hashlib
import os
from pathlib import Path

import pytest

from saes import parts
from saes.errors import Conflict, DataMissing, DiskFull, HashMismatch
from saes.parts import PartFile, open_part
from saes.storage import Expected, Library

ID = "sae_0123456789ab"
BODY = bytes(range(256)) * 100
LFS = Expected(len(BODY), sha256=hashlib.sha256(BODY).hexdigest())
GIT = Expected(len(BODY), git_sha1=hashlib.sha1(b"blob 25600\0" + BODY).hexdigest())


@pytest.fixture
def shelf(tmp_path: Path) -> Library:
    library = Library(tmp_path)
    library.open_home(ID)
    return library


def part(shelf: Library, expected: Expected = LFS) -> PartFile:
    return open_part(shelf.parts(ID), expected)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PIECE", 10_000)


def put(part: PartFile, number: int, until: int | None = None) -> None:
    """The next bytes of a piece, as its connection would write them."""
    piece = next(it for it in part.missing() if it.number == number)
    part.write(number, BODY[piece.start : piece.stop if until is None else until])


@pytest.mark.parametrize("expected", [LFS, GIT], ids=["sha256", "git"])
def test_a_part_file_goes_on_in_another_process_and_is_checked_as_a_whole(
    shelf: Library, expected: Expected
) -> None:
    put(part(shelf, expected), 0, 10_000)
    second = part(shelf, expected)
    assert second.size == 10_000
    put(second, 0)
    written = second.publish(shelf.source(ID) / "a" / "params.npz")
    assert written.path.read_bytes() == BODY
    assert written.sha256 == LFS.sha256
    assert list(shelf.parts(ID).iterdir()) == []


def test_pieces_come_in_any_order_and_each_goes_on_where_it_was(
    shelf: Library, small_pieces: None
) -> None:
    first = part(shelf)
    put(first, 2)
    put(first, 1, 15_000)
    again = part(shelf)
    assert [(it.start, it.stop) for it in again.missing()] == [(0, 10_000), (15_000, 20_000)]
    assert again.size == 5_000 + 5_600
    assert not again.hash_some()  # the first piece is not there
    put(again, 0)
    put(again, 1)
    assert again.publish(shelf.source(ID) / "x").path.read_bytes() == BODY


def test_a_part_file_without_its_record_is_not_believed(shelf: Library) -> None:
    put(part(shelf), 0, 10_000)
    (shelf.parts(ID) / f"{LFS.oid}.pieces").unlink()
    assert part(shelf).size == 0


def test_a_record_of_pieces_of_another_size_is_not_believed(
    shelf: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(part(shelf), 0, 10_000)
    monkeypatch.setattr(parts, "PIECE", 2**20)
    assert part(shelf).size == 0


def test_a_record_that_says_more_than_the_file_holds_is_not_believed(shelf: Library) -> None:
    put(part(shelf), 0, 10_000)
    os.truncate(shelf.parts(ID) / LFS.oid, 4_000)
    assert part(shelf).size == 4_000


@pytest.mark.parametrize("expected", [LFS, GIT], ids=["sha256", "git"])
def test_wrong_bytes_are_thrown_away_and_nothing_is_published(
    shelf: Library, expected: Expected
) -> None:
    bad = part(shelf, expected)
    bad.write(0, BODY[:-1] + b"?")
    with pytest.raises(HashMismatch):
        bad.publish(shelf.source(ID) / "params.npz")
    assert not (shelf.source(ID) / "params.npz").exists()
    assert list(shelf.parts(ID).iterdir()) == []


def test_too_few_bytes_are_not_published(shelf: Library) -> None:
    short = part(shelf)
    short.write(0, BODY[:-1])
    with pytest.raises(HashMismatch):
        short.publish(shelf.source(ID) / "params.npz")


def test_a_part_longer_than_the_file_starts_again(shelf: Library) -> None:
    shelf.parts(ID).mkdir()
    (shelf.parts(ID) / LFS.oid).write_bytes(BODY + b"more")
    assert part(shelf).size == 0


def test_another_version_of_the_file_does_not_go_on_from_the_old_part(shelf: Library) -> None:
    put(part(shelf), 0, 500)
    assert part(shelf, Expected(len(BODY), sha256="0" * 64)).size == 0


def test_the_last_bytes_of_the_disk_are_left_to_the_database(
    shelf: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = part(shelf)
    monkeypatch.setattr(parts, "FLOOR", shelf.free() + 2**30)
    with pytest.raises(DiskFull, match="left for the database"):
        put(mine, 0)
    assert mine.size == 0


def test_a_draft_replaces_the_former_result_only_as_a_whole(shelf: Library) -> None:
    with shelf.draft(shelf.native(ID)) as draft:
        (draft / "checkpoint.safetensors").write_text("first")
    with pytest.raises(RuntimeError), shelf.draft(shelf.native(ID)) as draft:
        (draft / "checkpoint.safetensors").write_text("half")
        raise RuntimeError
    assert (shelf.native(ID) / "checkpoint.safetensors").read_text() == "first"
    with shelf.draft(shelf.native(ID)) as draft:
        (draft / "checkpoint.safetensors").write_text("second")
    assert (shelf.native(ID) / "checkpoint.safetensors").read_text() == "second"
    assert sorted(path.name for path in shelf.home(ID).iterdir()) == ["native"]


def test_an_unmounted_data_directory_is_said_and_not_filled(tmp_path: Path) -> None:
    with pytest.raises(DataMissing):
        Library(tmp_path / "not mounted").open_home(ID)


def test_kept_files_leave_the_library_without_their_parts(shelf: Library) -> None:
    (shelf.source(ID)).mkdir()
    (shelf.source(ID) / "cfg.json").write_text("{}")
    put(part(shelf), 0, 10)
    assert shelf.keep(ID, {"name": "mine"}) is not None
    (kept,) = shelf.kept()
    assert (kept.name, kept.label) == (ID, {"name": "mine"})
    assert not shelf.home(ID).exists()
    shelf.remove_kept(ID)
    assert shelf.kept() == []


def test_bytes_that_another_process_appended_are_found_before_anything_is_published(
    shelf: Library,
) -> None:
    mine = part(shelf)
    put(mine, 0)
    with mine.path.open("ab") as other:
        other.write(b"more")
    with pytest.raises(HashMismatch):
        mine.publish(shelf.source(ID) / "params.npz")


def test_one_process_at_a_time_writes_below_an_sae(shelf: Library) -> None:
    with shelf.hold(ID, nothing), pytest.raises(Conflict), shelf.hold(ID, nothing, seconds=0.1):
        pass
    with shelf.hold(ID, nothing, seconds=0.1):
        assert (shelf.root / "run" / "locks" / ID).exists()


def nothing() -> None:
    """Nobody cancels in these tests."""


@pytest.mark.parametrize("blocked", ["saes", "run"])
def test_a_data_directory_that_cannot_be_used_is_said_in_a_sentence(
    tmp_path: Path, blocked: str
) -> None:
    (tmp_path / blocked).write_text("a file where a folder should be")
    broken = Library(tmp_path)
    with pytest.raises(DataMissing, match="cannot be used"), broken.hold(ID, nothing):
        broken.open_home(ID)
