"""Rows that an older version wrote are carried over, and back."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from saes import roles

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


def rights(group: str) -> set[str]:
    found = Permission.objects.filter(group__name=group)
    return set(found.values_list("codename", flat=True))


def test_groups_of_an_earlier_version_may_see_training_runs_and_keep_what_was_taken_away() -> None:
    formats("0005_storage")
    ContentType.objects.filter(app_label="saes", model="training").delete()  # with its permissions
    roles.make_groups()
    before = {name: rights(name) for name in roles.PERMISSIONS}
    editors = Group.objects.get(name=roles.EDITOR)
    editors.permissions.remove(Permission.objects.get(codename="delete_sae"))
    call_command("migrate", verbosity=0)
    assert rights(roles.VIEWER) - before[roles.VIEWER] == {"view_training"}
    assert rights(roles.EDITOR) == roles.PERMISSIONS[roles.EDITOR] - {"delete_sae"}
    assert rights(roles.ADMIN) == roles.PERMISSIONS[roles.ADMIN]
    assert Permission.objects.filter(content_type__model="training").count() == 4
    editors.permissions.remove(Permission.objects.get(codename="add_training"))
    call_command("migrate", verbosity=0)
    assert "add_training" not in rights(roles.EDITOR)
