"""`manage.py create_api_token`: a token alone on the last line, good at once."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from saes import api_tokens
from saes.models import ApiToken
from tests.commands.conftest import command

pytestmark = pytest.mark.django_db


def test_the_token_is_the_last_line_and_lets_the_owner_in() -> None:
    ran = command("create_api_token")
    row = api_tokens.check(ran.out.splitlines()[-1])
    assert (row.owner.username, row.scope, row.expires_at) == ("owner", "write", None)
    assert ran.out.splitlines()[-1] not in ran.err


def test_json_tells_all_of_it() -> None:
    User.objects.create_user("alice")
    told = command(
        "create_api_token", "--user", "alice", "--scope", "write", "--name", "a script",
        "--expires-in", "7", "--json",
    ).json  # fmt: skip
    row = api_tokens.check(told["token"])
    assert (told["user"], told["name"], told["scope"]) == ("alice", "a script", "write")
    assert (row.owner.username, row.scope) == ("alice", "write")
    assert row.expires_at is not None
    assert abs(row.expires_at - timezone.now() - timedelta(days=7)) < timedelta(minutes=1)


@pytest.mark.parametrize("active", [True, False])
def test_for_nobody_there_is_none(active: bool) -> None:
    User.objects.create_user("gone", is_active=False)
    ran = command("create_api_token", "--user", "nobody" if active else "gone", "--json")
    assert (ran.code, ran.json["code"]) == (1, "not_found")
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize(
    "words", [["--expires-in", "0"], ["--expires-in", "1e9"], ["--name", ""], ["--scope", "admin"]]
)
def test_what_makes_no_sense_is_wrong_usage(words: list[str]) -> None:
    assert command("create_api_token", *words).err.startswith("Error: argument --")
    assert not ApiToken.objects.exists()
