"""The page of API tokens: each is shown once, to its owner, on the answer that made it."""

import logging
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from saes import api_tokens, roles
from saes.models import ApiToken
from tests.views.conftest import signed_in
from tests.views.people import everything_kept, somebody

pytestmark = pytest.mark.django_db
PAGE = "/account/tokens/"
FORM = {"name": "a notebook", "scope": "write", "lifetime": "90"}


def shown_in(answer: object) -> list[str]:
    return re.findall(r"mis_[\w-]{43}", answer.content.decode())  # type: ignore[attr-defined]


def test_a_new_token_is_shown_once_and_works(client: Client, owner: User) -> None:
    answer = client.post(PAGE, FORM)
    assert answer.status_code == 200
    (token,) = shown_in(answer)
    assert "no-store" in answer["Cache-Control"]
    row = api_tokens.check(token)
    assert (row.owner, row.name, row.scope) == (owner, "a notebook", "write")
    assert row.last_four == token[-4:]
    page = client.get(PAGE)
    assert shown_in(page) == []
    assert "no-store" in page["Cache-Control"]
    assert "a notebook" in page.content.decode() and token[-4:] in page.content.decode()


def test_the_token_is_nowhere_but_on_that_page(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = client.post(PAGE, FORM)
    (token,) = shown_in(answer)
    cookies = "".join(cookie.value for cookie in answer.cookies.values())
    sessions = "".join(str(session.get_decoded()) for session in Session.objects.all())
    kept = "".join(str(content) for content in everything_kept().values())
    assert token not in caplog.text + cookies + sessions + kept + str(answer.headers)


def test_the_example_names_the_address_people_use(client: Client, settings: Settings) -> None:
    assert "curl http://testserver/api/v1/saes" in client.post(PAGE, FORM).content.decode()
    settings.PUBLIC_URL = "https://lab.example"
    assert "curl https://lab.example/api/v1/saes" in client.post(PAGE, FORM).content.decode()


@pytest.mark.parametrize(("lifetime", "days"), [("30", 30), ("90", 90), ("365", 365), ("0", None)])
def test_a_token_lasts_as_long_as_was_chosen(
    client: Client, lifetime: str, days: int | None
) -> None:
    client.post(PAGE, {**FORM, "lifetime": lifetime})
    expires = ApiToken.objects.get().expires_at
    if days is None:
        assert expires is None
    else:
        assert expires is not None
        assert abs(expires - timezone.now() - timedelta(days=days)) < timedelta(minutes=1)


WRONG = [
    {"name": ""}, {"name": "   "}, {"name": "x" * 101}, {"name": "a\0b"}, {"name": "a\x1b[2Jb"},
    {"scope": "admin"}, {"scope": ""}, {"lifetime": "1"}, {"lifetime": "-1"}, {"lifetime": "x"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_form_makes_no_token_and_keeps_what_was_typed(
    client: Client, wrong: dict[str, str]
) -> None:
    answer = client.post(PAGE, {**FORM, **wrong})
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "field-error" in text and shown_in(answer) == []
    assert "name" in wrong or 'value="a notebook"' in text
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("role", [None, roles.VIEWER])
def test_viewers_make_tokens_that_read_and_no_others(role: str | None) -> None:
    client = signed_in(somebody("vera", role))
    assert 'value="write"' not in client.get(PAGE).content.decode()
    refused = client.post(PAGE, FORM)
    assert refused.status_code == 422
    assert "tokens read" in refused.content.decode()
    assert client.post(PAGE, {**FORM, "scope": "read"}).status_code == 200
    assert [row.scope for row in ApiToken.objects.all()] == ["read"]


def test_without_a_token_the_page_says_what_one_is(client: Client) -> None:
    assert "No API token yet" in client.get(PAGE).content.decode()


def test_each_sees_only_their_own(client: Client) -> None:
    api_tokens.create(somebody("erin", roles.EDITOR), "the token of erin")
    assert "the token of erin" not in client.get(PAGE).content.decode()


def test_every_state_of_a_token_is_named(client: Client, owner: User) -> None:
    api_tokens.create(owner, "old", expires_at=timezone.now() - timedelta(days=1))
    gone, _ = api_tokens.create(owner, "gone")
    api_tokens.revoke(owner, gone.id)
    api_tokens.create(owner, "good")
    text = client.get(PAGE).content.decode()
    for word in ("Expired", "Revoked", "Works"):
        assert text.count(f"<span>{word}</span>") == 1
    assert text.count("btn-delete") == 1  # only what works can be revoked


# --- revoking -------------------------------------------------------------------------------------


def test_revoking_asks_first_and_shuts_the_token_out(client: Client, owner: User) -> None:
    row, token = api_tokens.create(owner, "a notebook")
    page = client.get(f"{PAGE}{row.id}/revoke/").content.decode()
    dialog = client.get(f"{PAGE}{row.id}/revoke/", headers={"hx-request": "true"})
    assert "Revoke this token?" in page and "<html" in page
    assert "<dialog" in dialog.content.decode() and "<html" not in dialog.content.decode()
    assert api_tokens.check(token) == row
    answer = client.post(f"{PAGE}{row.id}/revoke/")
    assert (answer.status_code, answer["Location"]) == (302, PAGE)
    with_it = {"authorization": f"Bearer {token}"}
    assert Client().get("/api/v1/saes", headers=with_it).status_code == 401


def test_revoking_twice_keeps_the_first_time(client: Client, owner: User) -> None:
    row, _ = api_tokens.create(owner, "a notebook")
    client.post(f"{PAGE}{row.id}/revoke/")
    row.refresh_from_db()
    first = row.revoked_at
    assert client.post(f"{PAGE}{row.id}/revoke/").status_code == 302
    row.refresh_from_db()
    assert row.revoked_at == first


@pytest.mark.parametrize("token_id", ["0", "999999", "99999999999999999999999"])
def test_a_token_that_is_not_there_is_not_found(client: Client, token_id: str) -> None:
    assert client.get(f"{PAGE}{token_id}/revoke/").status_code == 404


def test_a_name_is_text_and_nothing_else(client: Client) -> None:
    text = client.post(PAGE, {**FORM, "name": "<script>alert(1)</script>"}).content.decode()
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
