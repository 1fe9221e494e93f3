"""Tokens of the version before keep working, under a name; and the way back."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from pytest_django import Settings

from saes import vault
from saes.models import HubToken

pytestmark = pytest.mark.django_db(transaction=True)
BEFORE, AFTER = [("saes", "0007_publishing")], [("saes", "0008_hub_tokens")]


def migrate(to: list[tuple[str, str]]) -> Any:
    executor = MigrationExecutor(connection)
    executor.migrate(to)
    return executor.loader.project_state(to).apps.get_model("saes", "HubToken")


def test_stored_tokens_get_a_name_and_are_the_usual_ones(
    settings: Settings, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    alice = User.objects.create_user("alice")
    tokens = {"alice": "hf_alice_11111111", None: "hf_server_2222222", "once": "hf_once_333333333"}
    secrets = {who: vault._hidden(token) for who, token in tokens.items()}
    try:
        before = migrate(BEFORE)
        before.objects.create(owner_id=alice.id, **secrets["alice"])
        before.objects.create(owner_id=None, **secrets[None])
        before.objects.create(owner_id=alice.id, for_one_job=True, **secrets["once"])
    finally:
        migrate(AFTER)
    rows = HubToken.objects.order_by("id").values_list("name", "is_usual")
    assert list(rows) == [("Token", True), ("HF_TOKEN", True), ("", False)]
    assert [vault.opened(row) for row in HubToken.objects.order_by("id")] == list(tokens.values())


def test_the_way_back_leaves_the_usual_one(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    alice = User.objects.create_user("alice")
    vault.keep(alice, "hf_alice_11111111", "one")
    vault.make_usual(alice, vault.keep(alice, "hf_alice_22222222", "two").id)
    try:
        rows = migrate(BEFORE).objects.all()
        assert [row.last_four for row in rows] == ["2222"]
    finally:
        migrate(AFTER)
    assert vault.reveal(vault.of(alice)) == "hf_alice_22222222"
