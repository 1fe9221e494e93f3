"""What the Hub says of a token: when it is added, when it is tested, and when it is silent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from saes import hub_tokens, vault
from saes.errors import BadToken, HubUnreachable
from saes.hub import Identity
from saes.models import HubToken
from tests.hub import LocalHub, faults

pytestmark = pytest.mark.django_db
WRITES, READS, FINE = "hf_alice_writes_1", "hf_alice_reads_11", "hf_alice_fine_111"


@pytest.fixture
def hub(settings: Settings, tmp_path: Path) -> Iterator[LocalHub]:
    settings.DATA_DIR = tmp_path
    with LocalHub() as local:
        settings.HF_ENDPOINT = local.url
        local.add_token(WRITES, "alice", "write", orgs={"lab": "write", "friends": "read"})
        local.add_token(READS, "alice", "read")
        local.add_token(FINE, "alice", "fineGrained", repos=["a/b"], writes=["alice/saes"])
        yield local


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (WRITES, "Reads, and writes to repositories of alice, lab."),
        (READS, "Reads what alice may read, and writes nothing."),
        (FINE, "Fine-grained: writes to alice/saes, reads a/b."),
    ],
)
def test_the_hubs_word_is_kept_with_the_token(
    hub: LocalHub, alice: User, token: str, says: str
) -> None:
    row = hub_tokens.add(alice, "mine", token).row
    row.refresh_from_db()
    assert row.tested_at and not row.test_error and row.last_used_at is None
    assert Identity.from_json(row.identity or {}).describe() == says


def test_a_token_that_the_hub_does_not_know_is_not_stored(hub: LocalHub, alice: User) -> None:
    before = hub_tokens.add(alice, "mine", READS).row
    with pytest.raises(BadToken):
        hub_tokens.add(alice, "mine", "hf_unknown_111111")
    assert HubToken.objects.get() == before
    assert vault.reveal(HubToken.objects.get()) == READS


def test_while_the_hub_is_away_it_is_stored_untested(
    hub: LocalHub, alice: User, settings: Settings
) -> None:
    settings.HF_ENDPOINT = "http://127.0.0.1:9"
    added = hub_tokens.add(alice, "mine", READS)
    assert isinstance(added.untested, HubUnreachable)
    row = HubToken.objects.get()
    assert (row.tested_at, row.identity, vault.reveal(row)) == (None, None, READS)
    with pytest.raises(HubUnreachable):
        hub_tokens.test(row)
    settings.HF_ENDPOINT = hub.url
    hub_tokens.test(row)
    row.refresh_from_db()
    assert row.tested_at and (row.identity or {})["name"] == "alice"


@pytest.mark.parametrize("fault", [faults.status(500), faults.status(429)])
def test_a_hub_in_trouble_says_nothing_of_the_token(hub: LocalHub, alice: User, fault: Any) -> None:
    hub.faults.add("/api/whoami-v2", fault, times=None)
    assert hub_tokens.add(alice, "mine", READS).untested
    assert HubToken.objects.get().tested_at is None


def test_a_test_finds_a_token_that_was_revoked_and_keeps_whose_it_was(
    hub: LocalHub, alice: User
) -> None:
    row = hub_tokens.add(alice, "mine", READS).row
    hub.revoke_token(READS)
    hub_tokens.test(row)
    row.refresh_from_db()
    assert "does not know this token" in row.test_error
    assert (row.identity or {})["name"] == "alice"
    hub.add_token(READS, "alice", "read")
    hub_tokens.test(row)
    row.refresh_from_db()
    assert row.test_error == ""


def test_what_is_told_of_a_token_is_not_noted_on_the_one_that_replaced_it(
    hub: LocalHub, alice: User
) -> None:
    stale = hub_tokens.add(alice, "mine", READS).row
    vault.keep(alice, "hf_another_111111", "mine")
    hub_tokens.test(stale)
    row = HubToken.objects.get()
    assert (row.tested_at, row.identity) == (None, None)


@pytest.mark.parametrize("name", ["a" * 10_000, "a\x1b[2Jb", "a\0b", "a\u202eb", 5, None, {}])
def test_an_account_with_a_hostile_name_is_no_account(
    hub: LocalHub, alice: User, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"name": name, "auth": {"accessToken": {"role": "read"}}}
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda self: told)
    added = hub_tokens.add(alice, "mine", READS)
    assert added.untested and HubToken.objects.get().identity is None
