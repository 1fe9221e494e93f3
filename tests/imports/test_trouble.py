"""Imports that are cut short, run out of room, or find other files than they began with."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from saes import collecting, folders, imports, jobs, moves, services
from saes.errors import CannotLink, SourceChanged
from saes.imports import Wish
from saes.models import Job, Sae, SaeFile
from saes.progress import Stopped
from saes.storage import MARGIN, Library
from tests.fixtures import write_saelens
from tests.imports.test_files import assert_ready, imported


def started(path: str, **wish: Any) -> Job:
    _, job = imports.import_one(None, folders.place_of(path), Wish(**wish))
    assert job is not None
    return job


def sae_of(job: Job) -> Sae:
    return Sae.objects.get(id=job.sae_id)


def test_files_that_change_while_they_are_copied_are_not_believed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_saelens(root / "sae") / "sae_weights.safetensors"
    copy, times = collecting._copy, itertools.count(1)

    def copy_and_touch(*args: Any) -> str:
        os.utime(weights, (1, next(times)))
        return copy(*args)

    monkeypatch.setattr(collecting, "_copy", copy_and_touch)
    job = started("imports/sae")
    jobs.run(job.id)
    assert sae_of(job).error_code == SourceChanged.code


def test_a_cancelled_import_leaves_no_part_and_goes_on_when_it_is_asked_for_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_saelens(root / "sae")
    job = started("imports/sae")
    chunks = collecting._chunks

    def chunks_of_a_cancelled_job(*args: Any) -> Any:
        moves.cancel([job.id])
        yield from chunks(*args)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(collecting, "_chunks", chunks_of_a_cancelled_job)
        jobs.run(job.id)
    shelf = services.library()
    assert not shelf.has_parts(job.sae_id)
    assert sae_of(job).error_code == "cancelled"
    again = started("imports/sae")
    assert again.sae_id == job.sae_id
    jobs.run(again.id)
    assert_ready(sae_of(job))


def test_what_was_copied_before_is_not_copied_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_saelens(root / "sae")
    job, seen = started("imports/sae"), list[str]()
    copied = collecting.Collecting._copied

    def first_only(self: collecting.Collecting, name: str) -> Any:
        if seen:
            raise Stopped  # as if the worker had been killed: nothing is tidied up
        seen.append(name)
        return copied(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(collecting.Collecting, "_copied", first_only)
        jobs.run(job.id)
    assert SaeFile.objects.filter(sae=job.sae_id).count() == 1
    moves.requeue(Job.objects.get(id=job.id))
    again = list[str]()

    def noted(self: collecting.Collecting, name: str) -> Any:
        again.append(name)
        return copied(self, name)

    monkeypatch.setattr(collecting.Collecting, "_copied", noted)
    jobs.run(job.id)
    assert_ready(sae_of(job))
    assert not set(seen) & set(again)


def test_links_between_two_disks_are_said_to_be_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_saelens(root / "sae")
    monkeypatch.setattr(collecting, "link", lambda path, target: False)
    job = started("imports/sae", placement=Sae.Placement.LINK)
    jobs.run(job.id)
    assert sae_of(job).error_code == CannotLink.code


def test_an_import_that_cannot_fit_is_refused_with_the_numbers(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_saelens(root / "sae")
    monkeypatch.setattr(Library, "free", lambda self: MARGIN)
    job = started("imports/sae")
    jobs.run(job.id)
    assert sae_of(job).error_code == "disk_full"
    assert "are free" in sae_of(job).error_message


def test_the_same_bytes_are_stored_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saes.at_hand.WORTH_SHARING", 100)
    write_saelens(root / "one")
    write_saelens(root / "two")
    first, second = imported("imports/one"), imported("imports/two")
    home = services.library().home
    weights = "sae_weights.safetensors"
    assert (home(first.id) / f"source/one/{weights}").samefile(
        home(second.id) / f"source/two/{weights}"
    )


def test_two_at_once_make_one_sae(root: Path) -> None:
    write_saelens(root / "sae")
    place = folders.place_of("imports/sae")
    sae, _ = imports.import_one(None, place, Wish())
    other, job = imports.import_one(None, place, Wish())
    assert (other.id, job) == (sae.id, None)
