"""Hub tokens by name: which one is used, whose they are, and what of them is stored."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django import Settings

from saes import vault
from saes.errors import BadToken, NotFound
from saes.models import HubToken

pytestmark = pytest.mark.django_db
FIRST, SECOND = "hf_first_111111111", "hf_second_22222222"


@pytest.fixture(autouse=True)
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob")


def usual(user: User | None) -> list[str]:
    rows = HubToken.objects.filter(owner=user, is_usual=True)
    return list(rows.values_list("name", flat=True))


def test_the_first_token_is_the_usual_one_and_stays_it(alice: User) -> None:
    vault.keep(alice, FIRST, "reading")
    vault.keep(alice, SECOND, "publishing")
    assert usual(alice) == ["reading"]
    assert vault.reveal(vault.of(alice)) == FIRST


def test_a_token_takes_the_place_of_the_one_of_its_name(alice: User) -> None:
    row = vault.keep(alice, FIRST, "reading")
    HubToken.objects.update(identity={}, tested_at=timezone.now(), last_used_at=timezone.now())
    again = vault.keep(alice, SECOND, "reading")
    assert (again.id, again.is_usual, vault.reveal(again)) == (row.id, True, SECOND)
    assert (again.identity, again.tested_at) == (None, None)  # that was told of another token


def test_without_a_name_it_is_called_token(alice: User) -> None:
    assert vault.keep(alice, FIRST).name == "Token"
    vault.keep(alice, SECOND)
    assert [vault.reveal(row) for row in vault.standing(alice)] == [SECOND]


def test_one_can_be_made_the_usual_one(alice: User) -> None:
    vault.keep(alice, FIRST, "reading")
    row = vault.keep(alice, SECOND, "publishing")
    vault.make_usual(alice, row.id)
    assert usual(alice) == ["publishing"]
    assert [it.name for it in vault.standing(alice)] == ["publishing", "reading"]


def test_when_the_usual_one_goes_the_newest_of_the_others_is_it(alice: User) -> None:
    for name in ("reading", "older", "newer"):
        vault.keep(alice, FIRST, name)
    vault.forget(alice)
    assert usual(alice) == ["newer"]
    vault.forget(alice, HubToken.objects.get(name="older").id)
    assert usual(alice) == ["newer"]
    vault.forget(alice)
    vault.forget(alice)
    assert vault.of(alice) is None


def test_the_database_takes_no_second_usual_one_and_no_second_of_a_name(alice: User) -> None:
    row = vault.keep(alice, FIRST, "reading")
    for more in ({"name": "other", "is_usual": True}, {"name": "reading"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            HubToken.objects.create(owner=alice, secret=row.secret, **more)


def test_the_database_takes_one_of_the_server_alone() -> None:
    row = vault.keep(None, FIRST)
    with pytest.raises(IntegrityError), transaction.atomic():
        HubToken.objects.create(owner=None, name="more", secret=row.secret)
    assert vault.keep_for_one_job(None, SECOND) != vault.keep_for_one_job(None, SECOND)


def test_after_others_have_deleted_rows_one_is_the_usual_one_again(alice: User) -> None:
    vault.keep(alice, FIRST, "reading")
    vault.keep(alice, SECOND, "publishing")
    HubToken.objects.filter(name="reading").delete()
    left = vault.of(alice)
    assert left and left.name == "publishing"  # also until that is put right
    vault.settle(alice)
    assert usual(alice) == ["publishing"]


# --- by name, and whose ---------------------------------------------------------------------------


def test_a_token_is_found_by_its_name(alice: User) -> None:
    vault.keep(None, "hf_of_the_server_1")
    vault.keep(alice, FIRST, "reading")
    assert vault.reveal(vault.named(alice, "reading")) == FIRST
    assert vault.reveal(vault.named(alice, "HF_TOKEN")) == "hf_of_the_server_1"
    assert vault.reveal(vault.named(None, "HF_TOKEN")) == "hf_of_the_server_1"


@pytest.mark.parametrize("name", ["publishing", "", "READING", "%", "\0", "x" * 10_000])
def test_tokens_of_others_are_not_told_apart_from_none(alice: User, bob: User, name: str) -> None:
    vault.keep(bob, FIRST, "publishing")
    vault.keep(alice, SECOND, "reading")
    with pytest.raises(NotFound) as told:
        vault.named(alice, name)
    assert "Hub tokens" in told.value.next_step
    assert not name or name not in str(told.value)  # a token may have been sent in its place


def test_a_token_for_one_job_has_no_name_and_is_nobodys_choice(alice: User) -> None:
    row = vault.keep_for_one_job(alice, FIRST)
    assert vault.standing(alice) == [] and vault.of(alice) is None
    for act in (vault.make_usual, vault.forget):
        with pytest.raises(NotFound):
            act(alice, row.id)
    assert vault.reveal(row) == FIRST


def test_nobody_changes_the_tokens_of_others(alice: User, bob: User) -> None:
    servers, bobs = vault.keep(None, FIRST), vault.keep(bob, SECOND)
    for row in (servers, bobs):
        for act in (vault.make_usual, vault.forget):
            with pytest.raises(NotFound):
                act(alice, row.id)
    assert HubToken.objects.filter(is_usual=True).count() == 2


def test_whoever_has_none_uses_the_servers_own(alice: User) -> None:
    vault.keep(None, FIRST)
    assert [row.name for row in vault.standing(alice)] == ["HF_TOKEN"]
    assert vault.reveal(vault.of(alice)) == FIRST
    vault.keep(alice, SECOND)
    assert vault.reveal(vault.of(alice)) == SECOND
    assert vault.reveal(vault.of(None)) == FIRST


def test_the_servers_token_is_taken_from_its_environment_at_each_start() -> None:
    vault.take_server_token(FIRST)
    HubToken.objects.update(tested_at=timezone.now())
    vault.take_server_token(FIRST)
    assert HubToken.objects.get().tested_at  # it is the same one
    vault.take_server_token(SECOND)
    row = HubToken.objects.get()
    assert (vault.reveal(row), row.tested_at) == (SECOND, None)
    HubToken.objects.update(secret="of another key")
    vault.take_server_token(SECOND)
    assert vault.reveal(HubToken.objects.get()) == SECOND
    vault.take_server_token("")
    assert not HubToken.objects.exists()


# --- the last use ---------------------------------------------------------------------------------


def test_the_last_use_is_noted_but_not_each_one(alice: User) -> None:
    row = vault.keep(alice, FIRST)
    vault.reveal(row)
    row.refresh_from_db()
    first: Any = row.last_used_at
    assert first and timezone.now() - first < timedelta(minutes=1)
    vault.reveal(HubToken.objects.get())
    assert HubToken.objects.get().last_used_at == first
    HubToken.objects.update(last_used_at=first - timedelta(minutes=2))
    vault.reveal(HubToken.objects.get())
    now: Any = HubToken.objects.get().last_used_at
    assert now > first


def test_a_look_at_it_is_no_use(alice: User) -> None:
    row = vault.keep(alice, FIRST)
    assert vault.opened(row) == FIRST
    assert HubToken.objects.get().last_used_at is None


def test_what_no_key_reads_is_an_error_in_words(alice: User) -> None:
    row = vault.keep(alice, FIRST)
    row.secret = "gAAAA"
    HubToken.objects.update(secret="gAAAA")
    for act in (vault.reveal, vault.opened):
        with pytest.raises(BadToken):
            act(row)
    HubToken.objects.all().delete()
    with pytest.raises(BadToken):
        vault.reveal(row)
