"""Rows S17 and S19-S21 of hostile inputs: what lies in an import root, and what links lead to."""

import os
import socket
from pathlib import Path

import pytest

from saes import folders, imports, jobs, services, steering
from saes.errors import BrokenFile, OutsideRoots, PathNotFound, SaeError, UnsafeName
from saes.folders import Place
from saes.formats import FolderSource, folder
from saes.imports import Wish
from saes.models import Sae
from tests.fixtures import write_saelens
from tests.imports.test_files import assert_ready, imported

SECRET = b"not yours " * 1000


def wheres() -> list[str]:
    return [it.row.where for it in imports.look(None, Place("imports")).offers]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    write_saelens(path / "sae")
    (path / "secret").write_bytes(SECRET)
    return path


def test_a_hugging_face_cache_is_made_of_links_and_works(root: Path) -> None:
    blobs = root / "models--alice--saes" / "blobs"
    blobs.mkdir(parents=True)
    snapshot = root / "models--alice--saes" / "snapshots" / ("a" * 40) / "layer_3"
    write_saelens(snapshot)
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(f"../../../blobs/{number}")
    sae = imported(f"imports/models--alice--saes/snapshots/{'a' * 40}/layer_3")
    assert_ready(sae)
    assert sae.repo_id == "alice/saes"
    source = services.library().source(sae.id)
    assert not any(path.is_symlink() for path in source.rglob("*"))


def test_s19_folders_that_are_links_are_entered_once_and_loops_end(root: Path) -> None:
    write_saelens(root / "mine" / "sae")
    (root / "again").symlink_to("mine")
    (root / "mine" / "loop").symlink_to("..")
    (root / "round").symlink_to("round")
    found = wheres()
    assert len(found) == 1
    assert found[0].endswith("sae")


@pytest.mark.parametrize("what", ["a file", "a folder", "a device", "nothing"])
def test_s19_links_that_lead_out_are_left_out_and_named(
    root: Path, outside: Path, what: str
) -> None:
    folder = write_saelens(root / "sae")
    target = {
        "a file": outside / "secret", "a folder": outside / "sae", "a device": Path("/dev/zero"),
        "nothing": outside / "nothing",
    }[what]  # fmt: skip
    (folder / "cfg.json").unlink()
    (folder / "cfg.json").symlink_to(target)
    looked = imports.look(None, Place("imports"))
    if what != "nothing":
        assert looked.source.left_out == ["sae/cfg.json"]
    with pytest.raises(SaeError):
        imports.import_one(None, Place("imports", "sae"), Wish(format="saelens"))
    assert not Sae.objects.exists()


def test_s19_a_folder_above_that_is_a_link_out_of_the_root_is_refused(
    root: Path, outside: Path
) -> None:
    (root / "way").symlink_to(outside)
    for path in ("imports/way", "imports/way/sae", f"{root}/way/sae/cfg.json"):
        with pytest.raises(UnsafeName):
            folders.opened(folders.place_of(path))
    assert wheres() == []


@pytest.mark.parametrize("kind", ["a pipe", "a socket"])
def test_s19_what_is_no_file_is_never_opened(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_saelens(root / "sae")
    weights = folder / "sae_weights.safetensors"
    weights.unlink()
    if kind == "a pipe":
        os.mkfifo(weights)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            monkeypatch.chdir(folder)  # the path itself would be too long for a socket
            listener.bind(weights.name)
    source = FolderSource(root)
    assert "sae/sae_weights.safetensors" not in source.tree.names
    with pytest.raises(BrokenFile, match="is not a file"):
        source.read("sae/sae_weights.safetensors", 0, 8)


def test_s19_a_link_that_is_swapped_in_after_the_check_is_not_followed(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_saelens(root / "sae")
    source, checked = FolderSource(root), FolderSource.path

    def check_then_swap(self: FolderSource, name: str) -> Path:
        path = checked(self, name)
        path.unlink()
        path.symlink_to(outside / "secret")
        return path

    monkeypatch.setattr(folder.FolderSource, "path", check_then_swap)
    with pytest.raises(UnsafeName, match="was replaced while it was read"):
        source.open("sae/cfg.json")


def test_s19_a_folder_that_is_swapped_for_a_link_is_not_entered(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_saelens(root / "sae")
    source, checked = FolderSource(root), FolderSource.path

    def check_then_swap(self: FolderSource, name: str) -> Path:
        path = checked(self, name)
        (root / "sae").rename(root / "was")
        (root / "sae").symlink_to(outside / "sae")
        return path

    monkeypatch.setattr(folder.FolderSource, "path", check_then_swap)
    with pytest.raises(UnsafeName):
        source.open("sae/cfg.json")


@pytest.mark.parametrize(
    "path",
    ["imports/%2e%2e%2fx", "imports/..;/x", "imports/#/../../x", "imports/?/../../../x",
     "imports/sae/%252e%252e", "imports//etc/passwd", "imports/./sae/../nothing",
     "imports/\\..\\x"],
)  # fmt: skip
def test_s17_strange_paths_lead_nowhere(root: Path, path: str) -> None:
    write_saelens(root / "sae")
    with pytest.raises((PathNotFound, OutsideRoots)):
        folders.opened(folders.place_of(path))


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "<b>x</b>", "x" * 10_000, "..", ""])
def test_s20_a_name_is_never_a_path(root: Path, name: str) -> None:
    write_saelens(root / "sae")
    sae, job = imports.import_one(None, Place("imports", "sae"), Wish(name=name))
    assert job is not None
    jobs.run(job.id)
    sae.refresh_from_db()
    assert_ready(sae)
    assert services.library().home(sae.id) == services.library().root / "saes" / sae.id


@pytest.mark.parametrize("placement", Sae.Placement.values)
def test_s21_deleting_an_import_leaves_what_it_was_imported_from(
    root: Path, placement: str
) -> None:
    write_saelens(root / "sae")
    before = {path: path.read_bytes() for path in (root / "sae").iterdir()}
    sae = imported("imports/sae", placement=placement)
    steering.delete_sae(None, sae, keep_files=False)
    assert {path: path.read_bytes() for path in (root / "sae").iterdir()} == before
    assert not services.library().home(sae.id).exists()
