"""The table `trainings` of an existing miStudio, read over PostgreSQL and never written to.

Installations differ: a row is read as one JSON object of whichever columns there are.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from saes import training_records, trainings
from saes.errors import BadRequest, DataMissing, SaeError
from saes.models import Training
from saes.trainings import ID, LONGEST_PATH

COLUMNS = (
    "id", "name", "model_id", "model_name", "dataset_ids", "dataset_id", "status", "current_step",
    "total_steps", "hyperparameters", "current_loss", "current_l0_sparsity", "checkpoint_dir",
    "started_at", "completed_at",
)  # fmt: skip
NAMES = ("repo_id", "hf_repo_id", "name")  # of models and datasets: the first that says something
PAGE = 200  # rows
CONNECT_SECONDS = 10
STATEMENT_MS = 60_000
SCHEMES = ("postgresql://", "postgres://")
NO_ADDRESS = "This is not the address of a database: postgresql://USER@HOST/NAME."


@dataclass
class Synced:
    """Ids of runs; `left_out` says why."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def sync(database: str, data_dir: Path) -> Synced:
    """Rows for the runs of another installation whose folders lie below `data_dir`.

    Again, they are the same rows, brought up to date. Raises BadRequest, DataMissing.
    """
    if not data_dir.is_dir():
        raise DataMissing(f"There is no folder {data_dir}.", solution="Name that data directory.")
    told = Synced()
    for record in records(database):
        training_id = str(record.get("id") or "")
        try:
            _take(training_id, record, data_dir.resolve(), told)
        except DataMissing as error:
            told.left_out[training_id[:100]] = str(error)
    return told


def _take(training_id: str, record: Mapping[str, Any], data_dir: Path, told: Synced) -> None:
    if not ID.fullmatch(training_id):
        raise DataMissing("Its id cannot be one here.")
    columns = _columns(record)
    columns["directory"] = str(_folder_of(training_id, record, data_dir))
    row = Training.objects.filter(id=training_id).first()
    if row is None:
        Training.objects.create(
            id=training_id, **{**columns, "name": columns["name"] or training_id}
        )
        told.created.append(training_id)
        return
    columns = columns if columns["name"] else {**columns, "name": row.name}  # somebody's own
    if all(getattr(row, name) == value for name, value in columns.items()):
        told.unchanged.append(training_id)
        return
    Training.objects.filter(id=training_id).update(**columns)
    told.updated.append(training_id)


def _columns(record: Mapping[str, Any]) -> dict[str, Any]:
    status = str(record.get("status") or Training.Status.COMPLETED).lower()
    if status not in Training.Status.values:
        raise DataMissing(f"Its status is {status[:40]!r}, which no run has here.")
    return training_records.columns_of(record)


def _folder_of(training_id: str, record: Mapping[str, Any], data_dir: Path) -> Path:
    """By its id, or by the tail of a path as another container saw it. Raises DataMissing."""
    told = str(record.get("checkpoint_dir") or "").replace("\\", "/")
    parts = [it for it in PurePosixPath(told).parts if it != "/"]
    while parts and parts[-1] in (trainings.CHECKPOINTS, trainings.COMMUNITY):
        parts.pop()
    tails = [parts[start:] for start in range(len(parts))]
    for tail in (["trainings", training_id], [training_id], *tails):
        if (found := _run_at(data_dir, tail)) is not None:
            return found
    where = f" The database says {told[:200]!r}." if told else ""
    raise DataMissing(f"Its folder is not below the data directory.{where}")


def _run_at(data_dir: Path, tail: Sequence[str]) -> Path | None:
    if "\0" in "".join(tail) or ".." in tail:
        return None
    folder = data_dir.joinpath(*tail)
    try:
        folder = folder.resolve()
        inside = folder != data_dir and folder.is_relative_to(data_dir)
        there = inside and trainings.is_run(folder)
    except (OSError, RuntimeError):  # a name that is too long, a link that goes round
        return None
    return folder if there and len(str(folder)) <= LONGEST_PATH else None


# --- the other database --------------------------------------------------------------------------


def records(database: str) -> Iterator[dict[str, Any]]:
    """Each run in the words that columns_of() knows. Raises BadRequest, DataMissing."""
    with _connected(database) as connection:
        columns = _existing(connection, "trainings", COLUMNS)
        if "id" not in columns:
            raise DataMissing(
                "This database has no table `trainings` that may be read.",
                solution="Name the database of a miStudio, and a user who may read its tables.",
            )
        models, datasets = _names(connection, "models"), _names(connection, "datasets")
        for record in _rows(connection, "trainings", columns):
            yield _named(record, models, datasets)


@contextmanager
def _connected(database: str) -> Iterator[Any]:
    """A connection that cannot write, with one state of all tables. Raises BadRequest, DataMissing.

    What the client says of an error may hold the address and its password: it is not repeated.
    """
    psycopg = _client()
    if not database.startswith(SCHEMES):
        raise BadRequest(NO_ADDRESS)
    try:
        with psycopg.connect(
            database, connect_timeout=CONNECT_SECONDS, client_encoding="utf8"
        ) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.execute(f"SET LOCAL statement_timeout = {STATEMENT_MS}")
            yield connection
    except psycopg.Error as error:
        raise _in_words(psycopg, error) from None


def _client() -> Any:
    """Only this asks for it, where miStudio itself runs on SQLite."""
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        raise DataMissing(
            "Python cannot load psycopg, the client of PostgreSQL.",
            solution="Install it: pip install 'psycopg[binary]'.",
        ) from error


def _in_words(psycopg: Any, error: Exception) -> SaeError:
    if isinstance(error, psycopg.ProgrammingError) and not getattr(error, "sqlstate", None):
        return BadRequest(NO_ADDRESS)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        said, solution = "This user may not read the tables.", "Grant it SELECT, then try again."
    elif isinstance(error, psycopg.errors.QueryCanceled):
        said, solution = "The database takes too long to answer.", "Try again when it is less busy."
    elif isinstance(error, psycopg.OperationalError):
        said, solution = "The database does not let us in.", "Check its address, user and password."
    else:
        said = f"The database answers with an error, {getattr(error, 'sqlstate', None)}."
        solution = "Check that it is the database of a miStudio."
    return DataMissing(said, solution=solution)


def _existing(connection: Any, table: str, columns: Sequence[str]) -> list[str]:
    """Those of the columns that there are, and may be read."""
    found = connection.execute(
        "SELECT DISTINCT column_name FROM information_schema.columns"
        " WHERE table_name = %s AND table_schema = ANY (current_schemas(false))"
        " AND column_name = ANY (%s)",
        [table, list(columns)],
    )
    there = {name for (name,) in found}
    return [name for name in columns if name in there]


def _rows(connection: Any, table: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """`table` and `columns` are words of this file, and no user's."""
    asked = f"SELECT to_jsonb(it) FROM (SELECT {', '.join(columns)} FROM {table}) AS it"
    with connection.cursor(name=f"mistudio_{table}") as cursor:  # it stays on the server
        cursor.itersize = PAGE
        cursor.execute(asked)
        for (record,) in cursor:
            yield record


def _names(connection: Any, table: str) -> dict[str, str]:
    """What models or datasets are called, by their ids; nothing where there is no such table."""
    columns = _existing(connection, table, ("id", *NAMES))
    if "id" not in columns or len(columns) < 2:
        return {}
    found = {}
    for record in _rows(connection, table, columns):
        called = next((str(record[it]) for it in NAMES if record.get(it)), "")
        if called:
            found[str(record["id"])] = called
    return found


def _named(
    record: dict[str, Any], models: Mapping[str, str], datasets: Mapping[str, str]
) -> dict[str, Any]:
    """The same with names for ids. The id of a model that is not known is no name, and left out."""
    model = str(record.get("model_id") or "")
    ids = _listed(record.get("dataset_ids")) or _listed(record.get("dataset_id"))
    return {
        **record,
        "model_name": record.get("model_name") or models.get(model, ""),
        "model_id": "",
        "datasets": [datasets.get(it, it) for it in ids],
        "hyperparameters": training_records.from_text(record.get("hyperparameters")),
    }


def _listed(value: Any) -> list[str]:
    value = training_records.from_text(value)
    several = value if isinstance(value, list) else [value]
    return [str(it) for it in several if it not in (None, "")]
