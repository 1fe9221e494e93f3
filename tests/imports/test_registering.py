"""How runs get rows: by command, by scanning, again and again the same."""

import json
from pathlib import Path

import pytest
from pytest_django import Settings

from saes import trainings
from saes.errors import BadRequest
from saes.models import Training
from tests.commands.conftest import command
from tests.imports.test_picking import run as run
from tests.imports.test_trainings import run_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return run_of("mistudio_v2_topk", tmp_path / "elsewhere/my_run", status="RUNNING")


def test_a_folder_anywhere_is_registered_with_what_is_told(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"hidden_dim": 16}')
    ran = command("sae_register_training", folder, "--name", "Mine", "--model", "gpt2",
                  "--hyperparameters", file, "--status", "completed", "--json")  # fmt: skip
    row = Training.objects.get()
    assert (ran.code, ran.json["id"], ran.json["name"]) == (0, row.id, "Mine")
    assert (row.model_name, row.hyperparameters) == ("gpt2", {"hidden_dim": 16})
    assert (row.status, row.directory) == ("completed", str(folder.resolve()))


def test_registered_again_it_is_the_same_row_brought_up_to_date(folder: Path) -> None:
    first = command("sae_register_training", folder, "--json").json
    assert first["status"] == "running"
    (folder / "training.json").write_text(json.dumps({"name": "Renamed", "final_l0": 3}))
    again = command("sae_register_training", folder, "--json").json
    assert (again["id"], again["name"], again["final_l0"]) == (first["id"], "Renamed", 3.0)
    assert again["status"] == "running"  # nobody says that it is not any more
    assert again["created_at"] == first["created_at"]
    command("sae_register_training", folder, "--status", "completed")
    assert command("sae_register_training", folder, "--json").json["status"] == "completed"
    command("sae_register_training", folder, "--id", "train_other")
    assert Training.objects.count() == 2


@pytest.mark.parametrize("name", ["../../etc", "..", "", "a/b", "a" * 65, "a\nb", "<b>"])
def test_an_id_that_is_no_name_is_none(folder: Path, name: str) -> None:
    (folder / "training.json").write_text(json.dumps({"id": name}))
    assert trainings.register(folder).id.startswith("train_")
    if name:
        with pytest.raises(BadRequest):
            trainings.register(folder, name)


DEEP = '{"hyperparameters": ' + "[" * 9000 + "]" * 9000 + "}"


@pytest.mark.parametrize(
    "record",
    ["[]", "{", "null", '{"hyperparameters": {"a": NaN}}', '{"name": "\\u0000"}', '{"name": 5}',
     '{"name": "\\ud800"}', DEEP, '{"datasets": "x", "final_loss": "x"}',
     '{"current_step": -1, "total_steps": true, "started_at": "yesterday"}', "\xff"],
)  # fmt: skip
def test_a_record_that_is_nonsense_takes_nothing_else_away(folder: Path, record: str) -> None:
    (folder / "training.json").write_text(record, "latin-1")
    row = trainings.register(folder)
    assert row.name and (row.status, row.hyperparameters, row.datasets) == ("completed", {}, [])
    assert (row.current_step, row.total_steps, row.final_loss) == (None, None, None)


ENDLESS = '{"k": 5, "a": 1e400, "b": {"c": [1, -1e999, {"d": NaN, "e": 2}]}}'
FINITE = {"k": 5, "b": {"c": [1, None, {"e": 2}]}}


def test_numbers_that_are_not_finite_are_left_out_and_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    """PostgreSQL refuses them, SQLite drops them; a run that came apart has them in its losses."""
    record = f'{{"status": "failed", "current_loss": NaN, "hyperparameters": {ENDLESS}}}'
    (folder / "training.json").write_text(record)
    row = trainings.register(folder)
    row.refresh_from_db()
    assert (row.status, row.final_loss, row.hyperparameters) == ("failed", None, FINITE)
    (tmp_path / "params.json").write_text(ENDLESS.replace("5", "6"))
    command("sae_register_training", folder, "--hyperparameters", tmp_path / "params.json")
    row.refresh_from_db()
    assert row.hyperparameters == {**FINITE, "k": 6}


def test_what_is_no_folder_or_no_json_is_refused_with_a_sentence(folder: Path) -> None:
    ran = command("sae_register_training", folder / "nothing")
    assert ran.code == 1 and "There is no folder" in ran.err
    ran = command("sae_register_training", folder, "--hyperparameters", folder / "none.json")
    assert ran.code == 1 and "no such file" in ran.err
    (folder / "list.json").write_text("[1]")
    ran = command("sae_register_training", folder, "--hyperparameters", folder / "list.json")
    assert ran.code == 1 and "holds no JSON object" in ran.err
    assert not Training.objects.exists()


def test_a_folder_without_checkpoints_is_registered_with_a_word(tmp_path: Path) -> None:
    ran = command("sae_register_training", tmp_path)
    assert ran.code == 0 and "holds neither checkpoints/ nor community_format/ yet" in ran.err


def test_scanning_leaves_links_out_and_rows_as_they_are(settings: Settings, folder: Path) -> None:
    root = Path(settings.TRAININGS_DIR)
    run_of("mistudio_v2_topk", root / "train_in")
    (root / "train_link").symlink_to(folder)
    (root / "train_empty").mkdir()
    trainings.scan()
    assert list(Training.objects.values_list("id", flat=True)) == ["train_in"]
    Training.objects.update(name="Renamed")
    trainings.scan()
    assert Training.objects.get().name == "Renamed"


def test_lists_count_by_names_alone_what_a_run_holds(run: Training, folder: Path) -> None:
    assert trainings.count_of(run) == len(trainings.offered(trainings.items_of(run))) == 3
    assert trainings.count_of(trainings.register(folder)) is None  # it runs
    run.directory = "/nothing/here"
    assert trainings.count_of(run) is None
