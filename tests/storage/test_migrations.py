"""Rows that an older version wrote are carried over, and back."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def newest_afterwards() -> Iterator[None]:
    yield
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def formats(migration: str, *created: str) -> list[str]:
    """Of all rows, in the order of their names, as the database stands after `migration`."""
    executor = MigrationExecutor(connection)
    state = executor.migrate([("saes", migration)])
    rows = state.apps.get_model("saes", "Sae").objects
    for name in created:
        rows.create(id=f"sae_{name}", name=name, source="huggingface", format=name)
    return list(rows.order_by("name").values_list("format", flat=True))


def test_gemma_scope_got_a_number_when_a_second_one_came() -> None:
    formats("0001_library", "gemma_scope", "mistudio")
    assert formats("0002_gemma_scope_1") == ["gemma_scope_1", "mistudio"]
    assert formats("0001_library") == ["gemma_scope", "mistudio"]
