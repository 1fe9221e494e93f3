"""`manage.py sae_rotate_vault`: a new key, and what it says of the tokens."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User

from saes import locks, vault
from saes.models import HubToken
from tests.commands.conftest import command

TOKEN = "hf_canary_of_rotating"


@pytest.fixture
def row(data_dir: Path, owner: User) -> HubToken:
    return vault.keep(owner, TOKEN)


def test_it_says_how_many_tokens_have_a_new_key(row: HubToken, data_dir: Path) -> None:
    before = (data_dir / "vault.key").read_text()
    ran = command("sae_rotate_vault")
    assert (ran.code, ran.out, ran.err) == (0, "1 token encrypted with a new key.\n", "")
    assert (data_dir / "vault.key").read_text() != before
    assert vault.reveal(HubToken.objects.get()) == TOKEN


def test_in_json_it_is_one_document(row: HubToken, data_dir: Path) -> None:
    ran = command("sae_rotate_vault", "--json")
    assert ran.json == {"encrypted": 1, "unreadable": 0}
    assert TOKEN not in ran.out and (data_dir / "vault.key").read_text().strip() not in ran.out


def test_what_cannot_be_read_is_told(row: HubToken) -> None:
    HubToken.objects.update(secret="of another key")
    ran = command("sae_rotate_vault")
    assert ran.code == 0 and "1 token could not be read" in ran.err and "Hub tokens" in ran.err


def test_two_at_once_are_refused(row: HubToken, data_dir: Path) -> None:
    lock = locks.take(data_dir / "run" / "vault.lock")
    assert lock
    ran = command("sae_rotate_vault", "--json")
    lock.close()
    assert (ran.code, ran.json["code"]) == (1, "conflict")
