"""The training runs of another installation, read from a real PostgreSQL server."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from saes import trainings_sync
from saes.errors import BadRequest, DataMissing
from saes.models import Training
from tests.commands.conftest import command
from tests.jobs.conftest import SAMPLES
from tests.postgresql import database_url

__all__ = ["database_url"]
pytestmark = pytest.mark.processes

# As the original has it.
TABLES = """
CREATE TYPE run_status AS ENUM ('pending', 'initializing', 'running', 'completed', 'odd');
CREATE TABLE models (id varchar PRIMARY KEY, name varchar, repo_id varchar);
CREATE TABLE datasets (id uuid PRIMARY KEY, name varchar, hf_repo_id varchar);
CREATE TABLE trainings (
  id varchar PRIMARY KEY, model_id varchar, dataset_ids jsonb, status run_status,
  current_step int, total_steps int, hyperparameters jsonb, current_loss double precision,
  current_l0_sparsity double precision, checkpoint_dir varchar, logs text,
  started_at timestamptz, completed_at timestamptz
);
"""
DATASET = "0b9f7a9c-3d3e-4f66-9a51-0a8f6a6b7c01"
HYPERPARAMETERS = {"architecture_type": "topk", "top_k_sparsity": 5, "layers": [3]}


@pytest.fixture
def other(database_url: str) -> Iterator[psycopg.Connection]:
    """The other installation's own connection."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def their_data(tmp_path: Path) -> Path:
    return tmp_path / "theirs"


def make_run(folder: Path) -> Path:
    shutil.copytree(SAMPLES / "mistudio_v2_topk/repo", folder)
    return folder


def add(other: psycopg.Connection, run: str, **columns: Any) -> None:
    row = {
        "id": run, "model_id": "m_1", "dataset_ids": json.dumps([DATASET]), "status": "completed",
        "current_step": 5000, "total_steps": 6000, "hyperparameters": json.dumps(HYPERPARAMETERS),
        "current_loss": 0.25, "current_l0_sparsity": 12.5,
        "checkpoint_dir": f"/data/trainings/{run}/checkpoints",
        "started_at": "2026-01-01T10:00:00Z", "completed_at": "2026-01-01T12:00:00Z", **columns,
    }  # fmt: skip
    names = ", ".join(row)
    places = ", ".join(["%s"] * len(row))
    other.execute(f"INSERT INTO trainings ({names}) VALUES ({places})", list(row.values()))


def fill(other: psycopg.Connection) -> None:
    other.execute(TABLES)
    other.execute("INSERT INTO models VALUES ('m_1', 'GPT-2', 'openai-community/gpt2')")
    other.execute("INSERT INTO datasets VALUES (%s, 'Pile', 'monology/pile')", [DATASET])


def test_runs_come_with_names_for_ids_and_again_they_are_the_same_rows(
    other: psycopg.Connection,
    database_url: str,
    their_data: Path,
) -> None:
    fill(other)
    folder = make_run(their_data / "trainings/train_a")
    add(other, "train_a")
    add(other, "train_gone")
    told = trainings_sync.sync(database_url, their_data)
    assert (told.created, list(told.left_out)) == (["train_a"], ["train_gone"])
    run = Training.objects.get()
    assert (run.id, run.name, run.status) == ("train_a", "train_a", "completed")
    assert (run.model_name, run.datasets) == ("openai-community/gpt2", ["monology/pile"])
    assert (run.hyperparameters, run.final_loss, run.final_l0) == (HYPERPARAMETERS, 0.25, 12.5)
    assert (run.current_step, run.total_steps) == (5000, 6000)
    assert run.completed_at is not None and run.completed_at.isoformat().startswith("2026-01-01T12")
    assert run.directory == str(folder.resolve())

    assert trainings_sync.sync(database_url, their_data).unchanged == ["train_a"]
    Training.objects.update(name="My own name")
    other.execute("UPDATE trainings SET current_loss = 0.125 WHERE id = 'train_a'")
    assert trainings_sync.sync(database_url, their_data).updated == ["train_a"]
    run = Training.objects.get()
    assert (run.name, run.final_loss, run.created_at) == ("My own name", 0.125, run.created_at)


def test_nothing_can_be_written_there(
    other: psycopg.Connection,
    database_url: str,
    their_data: Path,
) -> None:
    fill(other)
    with (
        pytest.raises(DataMissing, match="25006"),  # read_only_sql_transaction
        trainings_sync._connected(database_url) as connection,
    ):
        connection.execute("DELETE FROM trainings")
    with trainings_sync._connected(database_url) as connection:
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("1min",)


@pytest.mark.parametrize(
    ("columns", "values", "wanted"),
    [
        ("dataset_ids text[]", "ARRAY['a', 'b']", {"datasets": ["a", "b"]}),
        ("dataset_ids json", "'[\"a\"]'", {"datasets": ["a"]}),
        ("dataset_ids text", "'[\"a\"]'", {"datasets": ["a"]}),
        ("dataset_id int", "7", {"datasets": ["7"]}),
        ("dataset_id uuid", f"'{DATASET}'", {"datasets": [DATASET]}),
        ("hyperparameters text", "'{\"k\": 5}'", {"hyperparameters": {"k": 5}}),
        ("hyperparameters text", "'{\"k\": 5, \"a\": 1e400}'", {"hyperparameters": {"k": 5}}),
        ("hyperparameters jsonb", "'{\"k\": 5, \"a\": 1e400}'", {"hyperparameters": {"k": 5}}),
        ("hyperparameters text", "'no json'", {"hyperparameters": {}}),
        ("hyperparameters jsonb", "'[1]'", {"hyperparameters": {}}),
        ("current_loss numeric", "0.5", {"final_loss": 0.5}),
        ("current_loss float8", "'NaN'", {"final_loss": None}),
        ("current_l0_sparsity float8", "'Infinity'", {"final_l0": None}),
        ("current_step bigint", "99999999999", {"current_step": None}),
        ("current_step text", "'5000'", {"current_step": 5000}),
        ("started_at timestamp", "'infinity'", {"started_at": None}),
        ("status text", "'COMPLETED'", {"status": "completed"}),
        ("model_id text", "'unknown'", {"model_name": ""}),
        ("model_name text", "'gpt2'", {"model_name": "gpt2"}),
        ("name text", "'Mine'", {"name": "Mine"}),
    ],
)  # fmt: skip
def test_columns_that_are_missing_or_of_another_type_stop_nothing(
    shared: tuple[psycopg.Connection, str], their_data: Path, columns: str, values: str,
    wanted: dict[str, Any],
) -> None:  # fmt: skip
    other, address = shared
    make_run(their_data / "train_a")
    other.execute("DROP TABLE IF EXISTS trainings")
    other.execute(f"CREATE TABLE trainings (id text, {columns})")
    other.execute(f"INSERT INTO trainings VALUES ('train_a', {values})")
    assert trainings_sync.sync(address, their_data).created == ["train_a"]
    run = Training.objects.get()
    assert {name: getattr(run, name) for name in wanted} == wanted


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psycopg.Connection, str]]:
    """One server for many tables."""
    from tests.postgresql import serving

    with (
        serving(tmp_path_factory.mktemp("pg")) as address,
        psycopg.connect(address, autocommit=True) as connection,
    ):
        yield connection, address


@pytest.mark.parametrize(
    ("told", "lies_in"),
    [
        ("/data/trainings/train_x/checkpoints", "trainings/train_x"),
        ("/app/data/runs/2026/train_x/checkpoints/", "runs/2026/train_x"),
        ("data\\runs\\my run\\checkpoints", "runs/my run"),
        ("/data/elsewhere", "train_x"),
        ("", "trainings/train_x"),
    ],
)
def test_a_run_is_found_by_its_id_or_by_the_tail_of_its_path(
    their_data: Path, told: str, lies_in: str
) -> None:
    folder = make_run(their_data / lies_in)
    found = trainings_sync._folder_of("train_x", {"checkpoint_dir": told}, their_data.resolve())
    assert found == folder.resolve()


@pytest.mark.parametrize(
    "told", ["/data/../../outside", "../outside", "/outside", "/data/link", "x\0y", "a" * 5000, "/"]
)
def test_a_path_that_leads_out_of_the_data_directory_is_no_run(
    their_data: Path, tmp_path: Path, told: str
) -> None:
    outside = make_run(tmp_path / "outside")
    their_data.mkdir()
    (their_data / "link").symlink_to(outside)
    with pytest.raises(DataMissing, match="not below"):
        trainings_sync._folder_of("train_x", {"checkpoint_dir": told}, their_data.resolve())


def test_what_cannot_be_a_run_here_is_left_out_with_a_reason(
    other: psycopg.Connection,
    database_url: str,
    their_data: Path,
) -> None:
    fill(other)
    their_data.mkdir()
    make_run(their_data / "train_b")
    add(other, "../../etc")
    add(other, "train_b", status="odd")
    ran = command("sae_sync_trainings", "--database", database_url, "--data-dir", their_data,
                  "--json")  # fmt: skip
    assert ran.code == 0
    assert ran.json["left_out"] == {
        "../../etc": "Its id cannot be one here.",
        "train_b": "Its status is 'odd', which no run has here.",
    }
    assert not Training.objects.exists()


def test_thousands_of_runs_are_read_page_by_page(
    other: psycopg.Connection,
    database_url: str,
    their_data: Path,
) -> None:
    fill(other)
    their_data.mkdir()
    other.execute(
        "INSERT INTO trainings (id, status) SELECT 'train_' || n, 'completed' "
        "FROM generate_series(1, 1000) AS n"
    )
    assert len(list(trainings_sync.records(database_url))) == 1000
    assert len(trainings_sync.sync(database_url, their_data).left_out) == 1000


def test_a_database_that_is_none_of_miStudio_is_told_so(
    other: psycopg.Connection,
    database_url: str,
    their_data: Path,
) -> None:
    their_data.mkdir()
    with pytest.raises(DataMissing, match="no table `trainings`"):
        trainings_sync.sync(database_url, their_data)


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("mysql://x", BadRequest, "not the address"),
        ("postgresql://[", BadRequest, "not the address"),
        ("postgresql://me:canary@127.0.0.1:1/x", DataMissing, "does not let us in"),
        ("postgresql://h/x?nonsense=canary", BadRequest, "not the address"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_without_its_password(
    their_data: Path, address: str, error: type[Exception], said: str
) -> None:
    their_data.mkdir()
    with pytest.raises(error, match=said) as refused:
        trainings_sync.sync(address, their_data)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None
    ran = command("sae_sync_trainings", "--database", address, "--data-dir", their_data)
    assert ran.code == 1 and "canary" not in ran.out + ran.err


def test_without_the_client_of_postgresql_it_says_what_to_install(
    their_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    their_data.mkdir()
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(DataMissing) as refused:
        trainings_sync.sync("postgresql://h/x", their_data)
    assert "pip install" in refused.value.next_step
