"""From a folder of this machine to a certified SAE: copied, linked, or left in place."""

import os
import shutil
import time
from pathlib import Path

import pytest

from saes import folders, imports, jobs, services
from saes.errors import NotThisFormat, OutsideRoots, SourceChanged, UnsafeName
from saes.folders import Place
from saes.imports import Wish
from saes.models import Job, Sae, SaeFile
from tests.fixtures import SAMPLES, Sample, write_saelens

COPY, LINK, IN_PLACE = Sae.Placement.COPY, Sae.Placement.LINK, Sae.Placement.IN_PLACE


def imported(path: str, **wish: object) -> Sae:
    sae, job = imports.import_one(None, folders.place_of(path), Wish(**wish))  # type: ignore[arg-type]
    assert job is not None
    jobs.run(job.id)
    sae.refresh_from_db()
    return sae


def files_of(sae: Sae, kind: str) -> dict[str, Path]:
    home = services.library().home(sae.id)
    return {row.path: home / row.path for row in sae.files.filter(kind=kind)}


def assert_ready(sae: Sae) -> None:
    assert (sae.error_message, sae.status) == ("", Sae.Status.READY)
    assert sae.certificate is not None
    assert sae.certificate["passed"]
    for row in sae.files.all():
        assert services.is_as_recorded(row)


@pytest.mark.parametrize("placement", [COPY, LINK, IN_PLACE])
def test_an_sae_becomes_ready_and_its_files_stay_as_they_were(root: Path, placement: str) -> None:
    folder = write_saelens(root / "mine" / "layer_5")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    sae = imported("imports/mine/layer_5", placement=placement, model_name="toy", name="Mine")
    assert_ready(sae)
    assert (sae.source, sae.import_root, sae.import_path) == ("local", "imports", "mine/layer_5")
    assert (sae.name, sae.d_in, sae.d_sae) == ("Mine", 16, 64)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    source = files_of(sae, SaeFile.Kind.SOURCE)
    assert len(source) == (0 if placement == IN_PLACE else 2)
    for path in source.values():
        same = path.samefile(folder / path.name)
        assert same == (placement == LINK)
    assert sae.certificate is not None
    assert sorted(sae.certificate["source_files"]) == [
        "mine/layer_5/cfg.json", "mine/layer_5/sae_weights.safetensors",
    ]  # fmt: skip


def test_asked_again_it_is_here_and_changed_files_are_another_sae(root: Path) -> None:
    folder = write_saelens(root / "mine")
    sae = imported("imports/mine")
    again, job = imports.import_one(None, folders.place_of(str(folder)), Wish())
    assert (again.id, job) == (sae.id, None)
    (offer,) = imports.look(None, Place("imports")).offers
    assert (offer.sae, offer.can_begin) == (sae, False)
    os.utime(folder / "cfg.json", (1, 1))
    (offer,) = imports.look(None, Place("imports")).offers
    assert (offer.sae, offer.can_begin) == (sae, True)
    assert imported("imports/mine").id != sae.id


def test_an_sae_that_lies_deeper_than_a_row_can_say_is_refused_before_it_has_one(
    root: Path,
) -> None:
    path = "/".join(["d" * 200] * 3)
    write_saelens(root / path)
    with pytest.raises(UnsafeName, match="500 letters"):
        imports.import_one(None, Place("imports", path), Wish())
    with pytest.raises(UnsafeName, match="500 letters"):
        imports.import_chosen(None, Place("imports"), [path], Wish())
    assert not Sae.objects.exists()


def test_files_left_in_place_that_changed_are_not_converted_again(root: Path) -> None:
    folder = write_saelens(root / "mine")
    sae = imported("imports/mine", placement=IN_PLACE)
    job = jobs.start(Job(kind=jobs.arrival_of(sae), sae=sae))
    jobs.run(job.id)
    sae.refresh_from_db()
    assert_ready(sae)
    (folder / "cfg.json").write_text((folder / "cfg.json").read_text() + " ")
    job = jobs.start(Job(kind=jobs.arrival_of(sae), sae=sae))
    jobs.run(job.id)
    sae.refresh_from_db()
    assert (sae.status, sae.error_code) == ("error", SourceChanged.code)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda it: it.name)
def test_every_sample_comes_from_a_folder_as_it_does_from_the_hub(
    root: Path, sample: Sample
) -> None:
    hub_name = f"models--{sample.repo_id.replace('/', '--')}" if sample.repo_id else "plain"
    shutil.copytree(sample.repo, root / hub_name)
    place = Place("imports", hub_name if sample.where == "." else f"{hub_name}/{sample.where}")
    sae, job = imports.import_one(None, place, Wish(facts=sample.facts or {}))
    assert job is not None
    jobs.run(job.id)
    sae.refresh_from_db()
    assert (sae.error_message, sae.status) == ("", Sae.Status.READY)


def test_a_format_that_is_named_must_be_that_of_the_files(root: Path) -> None:
    write_saelens(root / "mine")
    with pytest.raises(NotThisFormat, match="SAELens"):
        imports.import_one(None, Place("imports", "mine"), Wish(format="mistudio"))
    assert not Sae.objects.exists()
    imported("imports/mine", format="saelens")


# --- row S18: what lies outside of the roots ------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/proc/self/environ",
        "~/.cache/huggingface/token",
        "/root",
        "/nothing/here",
        "imports/../../x",
        "../imports/x",
        "",
        " ",
        "imports\0/x",
        "/",
        "file:///etc/passwd",
        "importsx",
    ],
)
def test_s18_every_path_outside_of_the_roots_has_the_same_answer(path: str, root: Path) -> None:
    with pytest.raises(OutsideRoots) as refused:
        folders.place_of(path)
    assert str(refused.value) == "This path is in none of the folders that may be imported from."


# --- large folders --------------------------------------------------------------------------------


def many(root: Path, count: int) -> None:
    """SAEs that are all links to one file."""
    sample = next(it for it in SAMPLES if it.name == "gemma_scope_1_res")
    shutil.copy(next(sample.repo.rglob("params.npz")), root / "blob")
    for number in range(count):
        folder = root / f"layer_{number % 20}/width_16k/average_l0_{number}"
        folder.mkdir(parents=True)
        (folder / "params.npz").symlink_to(root / "blob")


def test_thousands_of_saes_are_looked_at_and_begun_in_a_moment(root: Path) -> None:
    many(root, 1000)
    begun = time.process_time()
    wheres = [it.row.where for it in imports.look(None, Place("imports")).offers]
    brought = imports.import_chosen(None, Place("imports"), wheres, Wish(name="All of it"))
    assert len(brought.jobs) == 1000
    assert len(set(Sae.objects.values_list("name", flat=True))) == 1000
    assert time.process_time() - begun < 30  # three, where it is written
