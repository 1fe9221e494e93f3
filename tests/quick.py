"""What Django does anew for each client and each test, done once for all of them."""

import functools
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction
from whitenoise.middleware import WhiteNoiseMiddleware


@functools.cache
def _static_files() -> dict[str, Any]:
    return dict(WhiteNoiseMiddleware().files)


class ScannedOnce(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Each client of a test makes its own middleware, and would look at all static files again."""

    def add_files_from_finders(self) -> None:
        self.files.update(_static_files())


def all_rows() -> dict[str, list[tuple[Any, ...]]]:
    """Of every table of the project."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found[table] = cursor.fetchall()
    return found


def rows_as_they_are() -> Callable[..., None]:
    """Puts back the rows that are there now, once the tables are empty.

    Permissions and roles are what migrations leave; Django would work them out again after each
    test that commits, with hundreds of queries.
    """
    kept = {table: rows for table, rows in all_rows().items() if rows}

    def put_back(*_: object, **__: object) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            for table, rows in kept.items():
                places = ", ".join(["%s"] * len(rows[0]))
                into = connection.ops.quote_name(table)
                cursor.executemany(f"INSERT INTO {into} VALUES ({places})", rows)

    return put_back
