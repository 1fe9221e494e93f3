"""Part files: they go on where they were, and nothing is published that is not whole."""

import hashlib
from pathlib import Path

import pytest

from saes.errors import Conflict, DataMissing, HashMismatch
from saes.storage import Expected, Library, PartFile

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
    return shelf.part(ID, expected, lambda done: None)


@pytest.mark.parametrize("expected", [LFS, GIT], ids=["sha256", "git"])
def test_a_part_file_goes_on_in_another_process_and_is_checked_as_a_whole(
    shelf: Library, expected: Expected
) -> None:
    with part(shelf, expected) as first:
        first.write(BODY[:10_000])
    with part(shelf, expected) as second:
        assert second.size == 10_000
        second.write(BODY[10_000:])
        written = second.publish(shelf.source(ID) / "a" / "params.npz")
    assert written.path.read_bytes() == BODY
    assert written.sha256 == LFS.sha256
    assert list((shelf.home(ID) / "parts").iterdir()) == []


@pytest.mark.parametrize("expected", [LFS, GIT], ids=["sha256", "git"])
def test_wrong_bytes_are_thrown_away_and_nothing_is_published(
    shelf: Library, expected: Expected
) -> None:
    with part(shelf, expected) as bad:
        bad.write(BODY[:-1] + b"?")
        with pytest.raises(HashMismatch):
            bad.publish(shelf.source(ID) / "params.npz")
    assert not (shelf.source(ID) / "params.npz").exists()
    assert shelf.part_size(ID, expected) == 0


def test_too_few_bytes_are_not_published(shelf: Library) -> None:
    with part(shelf) as short:
        short.write(BODY[:-1])
        with pytest.raises(HashMismatch):
            short.publish(shelf.source(ID) / "params.npz")


def test_a_part_longer_than_the_file_starts_again(shelf: Library) -> None:
    with part(shelf) as long:
        long.write(BODY + b"more")
    with part(shelf) as again:
        assert again.size == 0


def test_another_version_of_the_file_does_not_go_on_from_the_old_part(shelf: Library) -> None:
    with part(shelf) as old:
        old.write(BODY[:500])
    with part(shelf, Expected(len(BODY), sha256="0" * 64)) as new:
        assert new.size == 0


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
    with part(shelf) as unfinished:
        unfinished.write(BODY[:10])
    assert shelf.keep(ID, {"name": "mine"}) is not None
    (kept,) = shelf.kept()
    assert (kept.name, kept.label) == (ID, {"name": "mine"})
    assert not shelf.home(ID).exists()
    shelf.remove_kept(ID)
    assert shelf.kept() == []


def test_bytes_that_another_process_appended_are_found_before_anything_is_published(
    shelf: Library,
) -> None:
    with part(shelf) as mine:
        mine.write(BODY)
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
