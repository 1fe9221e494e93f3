"""The database as this program needs it: made where there is none, never changed under a server."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from saes.errors import DataMissing


def bring_up_to_date() -> None:
    """What `start` does first."""
    if _is_behind(_executor()):
        with _one_at_a_time():
            call_command("migrate", interactive=False, verbosity=0)


def prepare() -> None:
    """For any other command. Raises DataMissing where the database is away, or of an older version.

    That one is left to `start`: a server that still runs may be using it.
    """
    try:
        executor = _executor()
    except OperationalError as error:
        raise DataMissing(
            "The database cannot be reached.",
            solution="Check MISTUDIO_DATABASE_URL, and that its server runs.",
        ) from error
    if not _is_behind(executor):
        return
    with _one_at_a_time():
        executor = _executor()  # another process may have been at it
        if _is_behind(executor):
            _make(executor)


def _make(executor: MigrationExecutor) -> None:
    if executor.loader.applied_migrations:
        raise DataMissing(
            "The database is of an older version of miStudio.",
            solution="Stop miStudio and run `make start`, which brings it up to date.",
        )
    call_command("migrate", interactive=False, verbosity=0)


def _executor() -> MigrationExecutor:
    connection.ensure_connection()
    return MigrationExecutor(connection)


def _is_behind(executor: MigrationExecutor) -> bool:
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """A command that is run while `start` still prepares waits for it."""
    path = settings.DATA_DIR / "run" / "migrations.lock"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
