"""Attempts that go on: with the files and the wishes of now, never with a mixture."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from saes import collecting, folders, imports, jobs, moves, services, steering
from saes.at_hand import share
from saes.conversion import finished
from saes.errors import CannotLink, Conflict, PathNotFound, SourceChanged
from saes.folders import Place
from saes.formats import by_slug, find_saes
from saes.imports import Wish
from saes.models import Job, Sae, SaeFile
from saes.progress import Stopped
from saes.recorder import still_to_write
from saes.storage import Written, link, sha256_of
from tests.fixtures import SAMPLES, Sample, tensors, write_saelens
from tests.imports.test_files import assert_ready, imported
from tests.imports.test_trouble import sae_of, started

COPY, LINK, IN_PLACE = Sae.Placement.COPY, Sae.Placement.LINK, Sae.Placement.IN_PLACE


def other_weights(folder: Path) -> None:
    """Of the same shapes, so of the same size."""
    W_enc = tensors()["W_enc"] * 2
    write_saelens(folder, W_enc=W_enc)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda it: it.name)
def test_a_job_sees_the_same_files_of_an_sae_as_the_scan_did(root: Path, sample: Sample) -> None:
    shutil.copytree(sample.repo, root / "run")
    whole = folders.opened(Place("imports")).tree
    for found in find_saes(whole):
        alone = folders.opened(Place("imports", found.where)).tree
        family = by_slug(found.format)
        assert family.files(alone, found.where) == family.files(whole, found.where)


@pytest.mark.parametrize(
    ("files", "where"),
    [
        (["layers.3/sae.safetensors", "layers.3/cfg.json", "config.json"], "layers.3"),
        (["t0/checkpoints/ae_500.pt", "t0/config.json"], "t0/checkpoints/ae_500.pt"),
    ],
)
def test_the_configuration_of_a_run_above_is_seen(root: Path, files: list[str], where: str) -> None:
    for name in files:
        path = root / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    whole = folders.opened(Place("imports")).tree
    found = next(it for it in find_saes(whole) if it.where == f"run/{where}")
    alone = folders.opened(Place("imports", f"run/{where}")).tree
    names = by_slug(found.format).files(alone, found.where)
    assert "run/config.json" in names or "run/t0/config.json" in names
    assert names == by_slug(found.format).files(whole, found.where)


def test_an_attempt_that_copied_other_files_begins_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_saelens(root / "sae")
    job, copied = started("imports/sae"), collecting.Collecting._copied
    done: list[str] = []

    def first_only(self: collecting.Collecting, name: str) -> Any:
        if done:
            raise Stopped
        done.append(name)
        return copied(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(collecting.Collecting, "_copied", first_only)
        jobs.run(job.id)
    other_weights(folder)
    moves.requeue(Job.objects.get(id=job.id))
    jobs.run(job.id)
    sae = sae_of(job)
    assert_ready(sae)
    for row in sae.files.filter(kind=SaeFile.Kind.SOURCE):
        assert row.sha256 == sha256_of(folder / Path(row.path).name)
    (offer,) = imports.look(None, Place("imports")).offers
    assert (offer.sae, offer.is_changed) == (sae, False)


@pytest.mark.parametrize("placement", [COPY, LINK, IN_PLACE])
def test_what_was_certified_is_made_again_of_the_same_bytes_or_not_at_all(
    root: Path, placement: str, settings: Settings
) -> None:
    settings.KEEP_SOURCE = False
    folder = write_saelens(root / "sae")
    sae = imported("imports/sae", placement=placement)
    assert not services.has_source(sae)
    again = steering.convert_again(None, sae)
    jobs.run(again.id)
    sae.refresh_from_db()
    assert_ready(sae)
    before = sae.certificate
    (folder / "sae_weights.safetensors").unlink()
    other_weights(folder)
    again = steering.convert_again(None, sae)
    jobs.run(again.id)
    sae.refresh_from_db()
    assert (sae.error_code, sae.certificate) == (SourceChanged.code, before)
    other, job = imports.import_one(None, Place("imports", "sae"), Wish())
    assert job is not None and other.id != sae.id


def test_files_that_change_after_they_were_hashed_are_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_saelens(root / "sae")

    def finished_late(*args: Any) -> Any:
        made = finished(*args)
        (folder / "cfg.json").write_text((folder / "cfg.json").read_text() + " ")
        return made

    monkeypatch.setattr("saes.conversion.finished", finished_late)
    job = started("imports/sae", placement=IN_PLACE)
    jobs.run(job.id)
    assert sae_of(job).error_code == SourceChanged.code
    assert not services.library().native(job.sae_id).exists()


def test_a_wish_that_follows_the_advice_is_taken_over(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_saelens(root / "sae")
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "link", lambda path, target: False)
        job = started("imports/sae", placement=LINK)
        jobs.run(job.id)
        assert sae_of(job).error_code == CannotLink.code
    again = started("imports/sae", placement=COPY)
    assert again.sae_id == job.sae_id
    jobs.run(again.id)
    assert_ready(sae_of(again))
    assert sae_of(again).placement == COPY


def test_many_that_failed_go_on_as_they_are_wished_now(root: Path) -> None:
    write_saelens(root / "sae")
    job = started("imports/sae", placement=LINK)
    moves.cancel([job.id])
    brought = imports.import_chosen(
        None, Place("imports"), ["sae"], Wish(placement=COPY, facts={"layer": 4})
    )
    assert [it.sae_id for it in brought.jobs] == [job.sae_id]
    jobs.run(brought.jobs[0].id)
    sae = sae_of(job)
    assert (sae.placement, sae.layer) == (COPY, 4)


def test_a_file_that_is_linked_from_outside_is_nobodys_twin(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saes.at_hand.WORTH_SHARING", 100)
    write_saelens(root / "sae")
    imported("imports/sae", placement=LINK)
    write_saelens(root / "other")
    sae = imported("imports/other", placement=COPY)
    weights = services.library().source(sae.id) / "other" / "sae_weights.safetensors"
    assert not weights.samefile(root / "sae" / "sae_weights.safetensors")
    share(sae, Written(weights, weights.stat().st_size, sha256_of(weights)))
    assert weights.stat().st_nlink == 1


def test_a_ready_sae_whose_origin_is_gone_stays_ready(root: Path, settings: Settings) -> None:
    settings.KEEP_SOURCE = False
    folder = write_saelens(root / "sae")
    sae = imported("imports/sae")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(Conflict, match="are not there any more"):
        steering.convert_again(None, sae)
    with pytest.raises(Conflict):
        steering.state_facts(None, sae, {"normalize_activations": "layer_norm"})
    sae.refresh_from_db()
    assert (sae.status, sae.given_facts) == ("ready", {})


def test_a_damaged_conversion_is_made_again_of_the_copy_that_is_kept(root: Path) -> None:
    folder = write_saelens(root / "sae")
    sae = imported("imports/sae")
    for path in folder.iterdir():
        path.unlink()
    (services.library().native(sae.id) / "checkpoint.safetensors").write_bytes(b"damage")
    job = steering.verify(None, sae)
    jobs.run(job.id)
    assert Sae.objects.get(id=sae.id).status == "error"
    again = steering.retry(None, Sae.objects.get(id=sae.id))
    assert again.kind == Job.Kind.CONVERT
    jobs.run(again.id)
    assert_ready(Sae.objects.get(id=sae.id))


def test_what_is_only_read_sets_no_room_aside_for_a_copy(root: Path) -> None:
    sae = Sae(placement=IN_PLACE)
    job = Job(sae=sae, kind=Job.Kind.IMPORT, stage="copying", bytes_total=100, bytes_done=10)
    assert still_to_write(job) == 100
    sae.placement = COPY
    assert still_to_write(job) == 190


def test_a_link_that_is_swapped_in_before_it_is_linked_is_not_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_saelens(root / "sae")
    secret = tmp_path / "secret"
    secret.write_bytes(b"not yours")
    real = link
    monkeypatch.setattr(collecting, "link", lambda path, target: real(secret, target))
    job = started("imports/sae", placement=LINK)
    jobs.run(job.id)
    assert sae_of(job).error_code == SourceChanged.code
    assert not [it for it in services.library().source(job.sae_id).rglob("*") if it.is_file()]


@pytest.mark.parametrize("name", ["a" * 300, "loop", "loop/inner", "nothing/inner"])
def test_folders_that_cannot_be_looked_into_are_told_in_words(root: Path, name: str) -> None:
    (root / "loop").symlink_to("loop")
    with pytest.raises(PathNotFound):
        folders.opened(Place("imports", name))


def test_a_name_that_is_no_text_is_left_out_and_named(root: Path) -> None:
    write_saelens(root / "sae")
    (root / b"bad\xff".decode("utf-8", "surrogateescape")).mkdir()
    looked = imports.look(None, Place("imports"))
    assert [it.row.where for it in looked.offers] == ["sae"]
    assert looked.source.left_out == [r"'bad\udcff'"]
