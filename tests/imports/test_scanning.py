"""Scanning the directory of trainings, which every page of runs does."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from saes import trainings
from saes.errors import DataMissing
from saes.models import Training
from tests.commands.conftest import command
from tests.imports.test_trainings import run_of

SAMPLE = "mistudio_v2_topk"
TOO_LONG = "x" * 300  # no disk looks a name up that is so long


@contextmanager
def forbidden_to_us(folder: Path) -> Iterator[None]:
    """Root may look into everything: it is somebody else as long as this lasts."""
    ours = os.geteuid()
    folder.chmod(0)
    if ours == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(ours)
        folder.chmod(0o755)


@pytest.fixture
def root(settings: Settings) -> Path:
    return Path(settings.TRAININGS_DIR)


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that everybody may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def ids() -> list[str]:
    return sorted(Training.objects.values_list("id", flat=True))


def test_a_folder_that_cannot_be_looked_at_takes_no_other_away(root: Path) -> None:
    run_of(SAMPLE, root / "train_good")
    (root / "train_round").symlink_to("train_round")
    (root / "train_long").symlink_to(TOO_LONG)
    (root / "train_inner").mkdir()
    (root / "train_inner/checkpoints").symlink_to(TOO_LONG)
    trainings.scan()
    assert ids() == ["train_good"]


@pytest.mark.parametrize("place", ["x" * 300, "round", "nothing"])
def test_a_directory_of_trainings_that_cannot_be_listed_has_no_runs(
    root: Path, settings: Settings, place: str
) -> None:
    (root / "round").symlink_to("round")
    settings.TRAININGS_DIR = root / place
    trainings.scan()
    assert ids() == []


def test_a_folder_without_the_right_to_enter_is_passed_over_and_said_in_words(
    open_root: Path,
) -> None:
    folder = run_of(SAMPLE, open_root / "train_closed")
    training = trainings.register(folder, status="completed")
    with forbidden_to_us(folder):
        assert not trainings.is_run(folder)
        assert trainings.count_of(training) is None
        with pytest.raises(DataMissing, match="My run cannot be read"):
            trainings.items_of(training)
    with forbidden_to_us(open_root), pytest.raises(DataMissing, match="My run cannot be read"):
        trainings.items_of(training)
    assert trainings.items_of(training)


def say(folder: Path, **record: Any) -> None:
    (folder / "training.json").write_text(json.dumps(record))


def test_a_run_that_was_seen_while_it_ran_is_completed_when_its_record_says_so(root: Path) -> None:
    folder = run_of(SAMPLE, root / "train_a", status="running", current_step=5, model_name="toy")
    trainings.scan()
    assert Training.objects.get().status == "running"
    Training.objects.update(name="My own")
    say(folder, status="COMPLETED", current_step=9, final_l0=3, name="Theirs")
    training = trainings.training_of("train_a")
    assert (training.status, training.current_step, training.final_l0) == ("completed", 9, 3.0)
    assert (training.name, training.model_name) == ("My own", "toy")
    assert trainings.items_of(training)
    say(folder, status="running")
    assert trainings.training_of("train_a").status == "completed"  # it has ended


@pytest.mark.parametrize("record", ["{}", "{", '{"status": "odd"}', '{"name": "x"}', "[]"])
def test_a_record_that_does_not_say_how_a_run_is_leaves_it_as_it_was(
    root: Path, record: str
) -> None:
    folder = run_of(SAMPLE, root / "train_a", status="running")
    trainings.scan()
    (folder / "training.json").write_text(record)
    assert trainings.training_of("train_a").status == "running"


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_row_under_another_id_is_the_only_one_and_is_read_again(
    root: Path, settings: Settings, through_a_link: bool
) -> None:
    folder = run_of(SAMPLE, root / "my_run", id="train_9", status="running")
    if through_a_link:
        settings.TRAININGS_DIR = root.with_name("link")
        settings.TRAININGS_DIR.symlink_to(root)
    command("sae_register_training", folder)
    (root / "another_name").symlink_to("my_run")
    say(folder, id="train_9", status="completed")
    trainings.scan()
    assert list(Training.objects.values_list("id", "status")) == [("train_9", "completed")]


def test_a_run_that_was_found_by_scanning_keeps_its_row_when_it_is_registered(root: Path) -> None:
    folder = run_of(SAMPLE, root / "my_run", id="train_9", status="running")
    trainings.scan()
    assert trainings.register(folder, status="completed").id == "my_run"
    assert list(Training.objects.values_list("id", "status")) == [("my_run", "completed")]
    assert trainings.register(folder, "train_9").id == "train_9"  # two, where that is wished
    assert trainings.register(folder).id == "train_9"


def test_a_folder_with_a_second_name_is_found_once_by_its_own(root: Path) -> None:
    run_of(SAMPLE, root / "train_5")
    for link in ("latest", "train_9"):
        (root / link).symlink_to("train_5")
    trainings.scan()
    trainings.scan()
    assert ids() == ["train_5"]


def test_rows_of_runs_elsewhere_stay_as_they_were_told(root: Path, tmp_path: Path) -> None:
    elsewhere = run_of(SAMPLE, tmp_path / "elsewhere/train_a", status="completed")
    run_of(SAMPLE, root / "train_a", status="completed")
    trainings.register(elsewhere, "train_a", status="running")
    trainings.scan()
    row = Training.objects.get()
    assert (row.status, row.directory) == ("running", str(elsewhere))


def test_scanning_what_is_known_asks_the_database_twice_and_writes_nothing(root: Path) -> None:
    for number in range(20):
        run_of(SAMPLE, root / f"train_{number}", status="running" if number % 2 else "completed")
    trainings.scan()
    with CaptureQueriesContext(connection) as asked:
        trainings.scan()
    assert [it["sql"].split()[0] for it in asked] == ["SELECT", "SELECT"]
