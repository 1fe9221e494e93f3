"""Tokens of the API: shown once, kept as a hash, good until they expire or are revoked."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from saes import api_tokens
from saes.errors import NotFound
from saes.models import ApiToken
from tests.api.conftest import ApiClient, client_of, person


def test_only_its_hash_is_kept(owner: User) -> None:
    row, token = api_tokens.create(owner, "mine")
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM saes_apitoken")
        kept = str(cursor.fetchall())
    assert token not in kept and token[4:] not in kept
    assert row.digest in kept and row.last_four == token[-4:]
    assert api_tokens.create(owner, "mine")[1] != token


def test_a_new_token_may_only_read(owner: User) -> None:
    assert api_tokens.create(owner, "mine")[0].scope == ApiToken.Scope.READ


def test_a_token_that_may_write_may_read(api: ApiClient) -> None:
    assert api.get("/saes")["data"] == []


def test_an_expired_token_is_refused(api: ApiClient) -> None:
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(minutes=1))
    assert "data" in api.get("/saes")
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert (api.get("/saes")["code"], api.status) == ("bad_api_token", 401)


def test_a_revoked_token_is_refused_and_the_others_go_on(api: ApiClient, owner: User) -> None:
    other = client_of(owner)
    first = ApiToken.objects.order_by("id")[0]
    api_tokens.revoke(owner, first.id)
    revoked_at = ApiToken.objects.get(id=first.id).revoked_at
    api_tokens.revoke(owner, first.id)
    assert ApiToken.objects.get(id=first.id).revoked_at == revoked_at
    assert api.get("/saes")["code"] == "bad_api_token"
    assert "data" in other.get("/saes")


def test_the_token_of_somebody_else_cannot_be_revoked(owner: User, editor: User) -> None:
    row, token = api_tokens.create(owner, "mine")
    with pytest.raises(NotFound):
        api_tokens.revoke(editor, row.id)
    assert api_tokens.check(token) == row


def test_the_last_use_is_noted_once_a_minute(api: ApiClient) -> None:
    api.get("/saes")
    noted = ApiToken.objects.get().last_used_at
    assert noted is not None
    api.get("/saes")
    assert ApiToken.objects.get().last_used_at == noted
    ApiToken.objects.update(last_used_at=noted - timedelta(hours=1))
    api.get("/saes")
    assert (ApiToken.objects.get().last_used_at or noted) >= noted


def test_a_user_who_goes_takes_the_tokens_along(db: None) -> None:
    somebody = person("somebody", "viewer")
    api = client_of(somebody)
    somebody.delete()
    assert api.get("/saes")["code"] == "bad_api_token"
    assert not ApiToken.objects.exists()


def test_a_token_with_a_letter_more_is_another(api: ApiClient) -> None:
    for wrong in (f"{api.token}x", api.token[:-1], api.token.upper(), f"x{api.token}"):
        assert ApiClient(wrong).get("/saes")["code"] == "bad_api_token"
