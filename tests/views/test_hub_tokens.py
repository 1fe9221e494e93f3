"""The page of Hub tokens: added, tested, chosen, removed, each by its owner; never shown."""

import logging
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from pytest_django import Settings

from saes import accounts, roles, vault
from saes.hub import Identity
from saes.models import HubToken, Job, Sae
from tests.hub import LocalHub, faults
from tests.views.conftest import signed_in
from tests.views.people import everything_kept, somebody

pytestmark = pytest.mark.django_db
PAGE = "/hub/tokens/"
CANARY = "hf_canary_writes_wxyz"
FORM = {"name": "publishing", "token": CANARY}
HTMX = {"hx-request": "true"}


@pytest.fixture(autouse=True)
def known(hub: LocalHub) -> None:
    hub.add_token(CANARY, "alice", "write", orgs={"lab": "contributor", "friends": "read"})
    hub.add_token("hf_reads_11111111", "alice", "read")


def text_of(client: Client, path: str = PAGE) -> str:
    return str(client.get(path).content.decode())


def own(user: User, name: str = "publishing", token: str = CANARY) -> HubToken:
    return vault.keep(user, token, name)


# --- adding ---------------------------------------------------------------------------------------


def test_a_token_is_added_and_told_of_in_words(client: Client, owner: User) -> None:
    answer = client.post(PAGE, FORM, follow=True)
    assert answer.redirect_chain == [(PAGE, 302)]
    text = answer.content.decode()
    for word in (
        "Added publishing: the Hub knows this token.", "hf_…wxyz", "<b class=\"name\">alice</b>",
        "Reads, and writes to repositories of alice, lab.", "friends: read", "Works", "Usual",
        "never",
    ):  # fmt: skip
        assert word in text, word
    assert "no-store" in answer["Cache-Control"]
    row = HubToken.objects.get()
    assert (row.owner, row.name, vault.reveal(row)) == (owner, "publishing", CANARY)
    assert "never" not in text_of(client)


def test_the_token_is_nowhere_but_encrypted(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        client.post(PAGE, FORM), client.get(PAGE), client.post(PAGE, {**FORM, "name": ""}),
        client.post(PAGE, {**FORM, "token": f"{CANARY} {CANARY}"}),
        client.post(PAGE, {"name": CANARY, "token": CANARY}),
        client.post(PAGE, {"name": "x", "token": f"{CANARY}_wrong"}), client.get("/hub/"),
        client.post(f"{PAGE}{HubToken.objects.get().id}/test/"),
        client.get(f"{PAGE}{HubToken.objects.get().id}/remove/"),
    ]  # fmt: skip
    seen = "".join(str(it.headers) + str(it.cookies) + it.content.decode() for it in answers)
    sessions = "".join(str(session.get_decoded()) for session in Session.objects.all())
    kept = "".join(str(content) for content in everything_kept().values())
    assert "canary" not in seen + sessions + kept + caplog.text


def test_a_token_that_the_hub_refuses_is_not_stored(client: Client) -> None:
    answer = client.post(PAGE, {"name": "mine", "token": "hf_unknown_1111111"})
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "The Hub does not know this token" in text and "It was not stored." in text
    assert 'value="mine"' in text and "hf_unknown" not in text
    assert not HubToken.objects.exists()


def test_while_the_hub_is_away_it_is_stored_and_called_untested(
    client: Client, settings: Settings
) -> None:
    settings.HF_ENDPOINT = "http://127.0.0.1:9"
    text = client.post(PAGE, FORM, follow=True).content.decode()
    assert "Added publishing, and not tested: http://127.0.0.1:9 cannot be reached." in text
    assert "<span>Not tested</span>" in text
    assert vault.reveal(HubToken.objects.get()) == CANARY


def test_one_of_the_same_name_is_replaced(client: Client) -> None:
    client.post(PAGE, {**FORM, "token": "hf_reads_11111111"})
    text = client.post(PAGE, FORM, follow=True).content.decode()
    assert "Replaced publishing" in text and "1111" not in text
    assert vault.reveal(HubToken.objects.get()) == CANARY


WRONG = [
    {"name": ""}, {"name": "   "}, {"name": "x" * 101}, {"name": "x" * 10_000}, {"name": "a\0b"},
    {"name": "a\x1b[2Jb"}, {"name": "a\u202eb"}, {"name": "hf_something"}, {"name": "HF_TOKEN"},
    {"token": ""}, {"token": "hf a"}, {"token": "hf_\u00e9"}, {"token": "x" * 401},
    {"token": "a\r\nX: y"}, {"token": "a\x1bb"}, {"token": "a\0b"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:40])
def test_a_wrong_form_stores_nothing_and_asks_nobody(
    client: Client, hub: LocalHub, wrong: dict[str, str]
) -> None:
    answer = client.post(PAGE, {**FORM, **wrong})
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "field-error" in text and "canary" not in text
    assert "name" in wrong or 'value="publishing"' in text
    assert not HubToken.objects.exists()
    assert hub.log.requests("whoami") == []


def test_a_token_that_was_typed_as_the_name_is_not_shown(client: Client) -> None:
    for form in ({"name": CANARY, "token": "x"}, {"name": "canary_x", "token": "canary_x"}):
        text = client.post(PAGE, form).content.decode()
        assert "canary" not in text and "cannot look like a token" in text


@pytest.mark.parametrize("role", [None, roles.VIEWER, roles.EDITOR, roles.ADMIN])
def test_everybody_who_is_signed_in_has_their_own(role: str | None) -> None:
    client = signed_in(somebody("vera", role))
    assert "No Hub token yet" in text_of(client)
    assert client.post(PAGE, FORM).status_code == 302
    assert "hf_…wxyz" in text_of(client)


def test_whoever_is_not_signed_in_is_asked_to() -> None:
    for path in (PAGE, f"{PAGE}1/remove/"):
        assert Client().get(path)["Location"] == f"/sign-in/?next={path}"


# --- whose ----------------------------------------------------------------------------------------


def test_nobody_sees_or_reaches_the_token_of_somebody_else(owner: User) -> None:
    row, servers = own(owner), vault.keep(None, "hf_server_22222222")
    once = vault.keep_for_one_job(owner, "hf_once_3333333333")
    before = HubToken.objects.order_by("id").values()
    for role in (roles.VIEWER, roles.EDITOR, roles.ADMIN):
        client = signed_in(somebody(role, role))
        assert "wxyz" not in text_of(client) + text_of(client, "/hub/")
        for verb in ("test", "usual", "remove"):
            assert client.post(f"{PAGE}{row.id}/{verb}/").status_code == 404
    for other in (servers, once):
        for verb in ("test", "usual", "remove"):
            assert signed_in(owner).post(f"{PAGE}{other.id}/{verb}/").status_code == 404
    assert list(HubToken.objects.order_by("id").values()) == list(before)


def test_the_servers_own_is_called_configured_and_cannot_be_removed(client: Client) -> None:
    vault.keep(None, "hf_server_22222222")
    text = text_of(client)
    assert "HF_TOKEN" in text and "configured on the server" in text and "hf_…2222" in text
    assert "btn-delete" not in text and "/usual/" not in text


@pytest.mark.parametrize("token_id", ["0", "999999", "99999999999999999999999"])
def test_a_token_that_is_not_there_is_not_found(client: Client, token_id: str) -> None:
    assert client.get(f"{PAGE}{token_id}/remove/").status_code == 404
    assert client.post(f"{PAGE}{token_id}/test/").status_code == 404


# --- testing, choosing, removing ------------------------------------------------------------------


def test_a_test_asks_the_hub_again(client: Client, owner: User, hub: LocalHub) -> None:
    row = own(owner)
    assert "<span>Not tested</span>" in text_of(client)
    said = client.post(f"{PAGE}{row.id}/test/", follow=True).content.decode()
    assert "publishing: the Hub knows this token." in said and "<span>Works</span>" in said
    hub.revoke_token(CANARY)
    said = client.post(f"{PAGE}{row.id}/test/", follow=True).content.decode()
    assert "<span>Refused</span>" in said and "wrong or was revoked" in said


def test_with_htmx_the_row_alone_comes_and_a_word_for_the_announcer(
    client: Client, owner: User
) -> None:
    answer = client.post(f"{PAGE}{own(owner).id}/test/", headers=HTMX)
    text = answer.content.decode()
    assert text.strip().startswith("<tr id=") and "<span>Works</span>" in text
    assert "publishing: the Hub knows this token." in answer["HX-Trigger"]


def test_a_hub_that_is_away_changes_nothing_of_a_token(
    client: Client, owner: User, hub: LocalHub
) -> None:
    row = own(owner)
    client.post(f"{PAGE}{row.id}/test/")
    before = HubToken.objects.values().get()
    hub.faults.add("/api/whoami-v2", faults.status(500), times=None)
    answer = client.post(f"{PAGE}{row.id}/test/")
    assert (answer.status_code, HubToken.objects.values().get()) == (502, before)


def test_a_token_whose_key_is_gone_says_so(client: Client, owner: User) -> None:
    row = own(owner)
    HubToken.objects.update(secret="gAAAA-of-another-key")
    assert "cannot be read" in client.post(f"{PAGE}{row.id}/test/").content.decode()
    assert client.get(PAGE).status_code == 200


def test_another_one_is_made_the_usual_one(client: Client, owner: User) -> None:
    own(owner, "reading")
    row = own(owner, "publishing")
    text = client.post(f"{PAGE}{row.id}/usual/", follow=True).content.decode()
    assert "publishing is the usual one now." in text
    assert text.count('<span class="chip chip-own">Usual</span>') == 1
    assert vault.of(owner) == row


def test_removing_asks_first(client: Client, owner: User) -> None:
    row = own(owner)
    job = Job(kind=Job.Kind.DOWNLOAD, token=row, created_by=owner)
    job.sae = Sae.objects.create(name="x", source=Sae.Source.HUGGINGFACE)
    job.save()
    page, dialog = (
        client.get(f"{PAGE}{row.id}/remove/", headers=headers).content.decode()
        for headers in ({}, HTMX)
    )
    assert "Remove this token?" in page and "<html" in page and "1 job that is not done" in page
    assert "<dialog" in dialog and "<html" not in dialog
    assert HubToken.objects.exists()
    answer = client.post(f"{PAGE}{row.id}/remove/", follow=True)
    assert answer.redirect_chain == [(PAGE, 302)]
    assert "Removed publishing." in answer.content.decode()
    assert not HubToken.objects.exists()


# --- what others wrote ----------------------------------------------------------------------------


def test_names_and_accounts_are_text_and_nothing_else(client: Client, owner: User) -> None:
    attack = "<script>alert(1)</script>"
    client.post(PAGE, {**FORM, "name": attack})
    told = Identity(attack, "fineGrained", {attack: attack}).to_json()
    told["scopes"] = [{"kind": attack, "name": attack, "permissions": [attack]}]
    HubToken.objects.update(identity=told, test_error=attack)
    row = HubToken.objects.get()
    for path in (PAGE, f"{PAGE}{row.id}/remove/", "/hub/"):
        assert "<script>alert" not in text_of(client, path)
    assert text_of(client).count("&lt;script&gt;alert(1)") > 5


def test_an_account_of_very_many_scopes_keeps_the_page_small(client: Client, owner: User) -> None:
    own(owner)
    told: dict[str, Any] = Identity("alice", "fineGrained").to_json()
    permissions = [f"permission.{n}" for n in range(500)]
    told["scopes"] = [{"kind": "model", "name": "x" * 200, "permissions": permissions}] * 500
    told["orgs"] = {f"org-{n:0190}": "read" for n in range(500)}
    HubToken.objects.update(identity=told)
    assert len(text_of(client)) < 100_000


# --- the preview form -----------------------------------------------------------------------------


def test_the_token_of_the_preview_form_is_the_one_that_the_preview_goes_with(
    client: Client, owner: User
) -> None:
    own(owner, "publishing")
    client.post("/hub/", {"repo": "a/b", "token": "hf_reads_11111111"})
    assert vault.reveal(vault.of(owner)) == "hf_reads_11111111"
    text = text_of(client)
    assert "Your usual Hub token is Token now." in text
    assert [row.name for row in vault.standing(owner)] == ["Token", "publishing"]


@pytest.mark.parametrize("path", ["/", "/hub/", "/account/tokens/"])
def test_pages_lead_there(client: Client, path: str) -> None:
    assert f'href="{PAGE}"' in text_of(client, path)


def test_where_a_token_is_missing_the_page_is_named(hub: LocalHub) -> None:
    hub.add_repo("someone/gated", {}, gated="manual")
    client = signed_in(accounts.ensure_owner())
    assert f'href="{PAGE}"' in text_of(client, "/hub/someone/gated/")
