"""A database that is busy, and headers that say when to ask again."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from saes.api.middleware import problem
from saes.errors import BadToken, Busy, Forbidden, HubUnreachable, RateLimited, SaeError
from saes.models import ApiToken, Sae
from tests.api.conftest import ApiClient
from tests.api.made import parsed, ready_sae
from tests.hub import LocalHub, faults


@pytest.fixture
def locked(transactional_db: None) -> Iterator[None]:
    """Another process writes, for longer than anybody waits."""
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite has one writer at a time")
    connection.ensure_connection()
    connection.connection.execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()
    connection.close()


@pytest.fixture
def sae(owner: User) -> Sae:
    return ready_sae(owner)


def test_a_busy_database_is_said_to_be_busy(sae: Sae, api: ApiClient, locked: None) -> None:
    for _ in range(2):
        api.patch(f"/saes/{sae.id}", {"notes": "changed"})
        assert (api.status, parsed(api.last)["code"]) == (503, "busy")
        assert api.header("Retry-After") == "5"


def test_a_busy_database_can_be_read_though_the_last_use_of_a_token_is_not_noted(
    sae: Sae, api: ApiClient, locked: None
) -> None:
    assert api.get(f"/saes/{sae.id}")["id"] == sae.id
    assert ApiToken.objects.get().last_used_at is None


def test_a_batch_of_deletions_says_what_the_busy_database_kept(
    sae: Sae, api: ApiClient, locked: None
) -> None:
    told = api.post("/saes/delete", {"sae_ids": [sae.id, "sae_none"]})
    assert (api.status, told["failed_count"]) == (200, 2)
    assert told["errors"][sae.id] == "The database is busy."
    assert Sae.objects.get() == sae


# --- when to ask again ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (RateLimited("x"), "60"),
        (RateLimited("x", 0), "1"),
        (RateLimited("x", 0.4), "1"),
        (RateLimited("x", 6.1), "7"),
        (RateLimited("x", float("inf")), "86400"),
        (Busy("x"), "5"),
        (HubUnreachable("x"), None),
        (Forbidden("x"), None),
    ],
)
def test_every_refusal_for_now_says_how_long(error: SaeError, wait: str | None) -> None:
    assert problem(error).get("Retry-After") == wait


@pytest.mark.parametrize(
    ("headers", "wait"),
    [({}, "5"), ({"Retry-After": "0"}, "1"), ({"Retry-After": "9" * 400}, "3600")],
)
def test_a_limited_hub_says_how_long(
    api: ApiClient, hub: LocalHub, headers: dict[str, str], wait: str
) -> None:
    hub.faults.add("/api/", faults.status(429, headers))
    told: Any = api.post("/saes/hf/preview", {"repo_id": "me/one"})
    assert (api.status, told["code"], api.header("Retry-After")) == (429, "rate_limited", wait)


def test_a_token_that_the_hub_does_not_know_asks_for_no_token_of_ours() -> None:
    answer = problem(BadToken("x"))
    assert (answer.status_code, answer.has_header("WWW-Authenticate")) == (401, False)
