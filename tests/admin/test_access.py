"""Tokens and notes in the admin: whose they are, never what they are."""

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from saes import api_tokens, roles, vault
from saes.admin.rows import Rows
from saes.errors import BadApiToken
from saes.hub import Identity
from saes.models import ApiToken, HubToken, Sae
from tests.admin.conftest import act, key, signed_in, staff

pytestmark = pytest.mark.django_db
API, HUB, NOTES = "/admin/saes/apitoken/", "/admin/saes/hubtoken/", "/admin/admin/logentry/"
SECRET = "hf_canary_in_the_vault_wxyz"


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_api_tokens_show_their_end_and_no_more(client: Client, owner: User) -> None:
    row, token = api_tokens.create(owner, "a laptop", "write")
    for path in (API, f"{API}{row.pk}/change/", f"{API}{row.pk}/delete/"):
        text = text_of(client, path)
        assert "a laptop" in text
        assert token not in text and row.digest not in text, path
    assert f"mis_…{token[-4:]}" in text_of(client, API)
    assert "Read and write" in text_of(client, API)


def test_api_tokens_are_revoked_at_once(client: Client, owner: User) -> None:
    row, token = api_tokens.create(owner, "a laptop")
    assert "1 revoked." in act(client, "revoke", row, at=API)
    with pytest.raises(BadApiToken):
        api_tokens.check(token)
    assert LogEntry.objects.get().change_message == "Revoked."


def test_hub_tokens_show_their_fingerprint_and_no_more(client: Client, owner: User) -> None:
    row = vault.keep(owner, SECRET)
    vault.keep(None, "hf_of_the_server_itself")
    for path in (HUB, f"{HUB}{row.pk}/change/", f"{HUB}{row.pk}/delete/"):
        text = text_of(client, path)
        assert "hf_…wxyz" in text
        assert SECRET not in text and row.secret not in text, path
    assert "the server (HF_TOKEN)" in text_of(client, HUB)
    assert client.post(f"{HUB}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert list(HubToken.objects.values_list("owner", flat=True)) == [None]
    assert SECRET not in text_of(client, NOTES)


def test_what_the_hub_said_of_a_token_is_shown(client: Client, owner: User) -> None:
    row = vault.keep(owner, SECRET, "publishing")
    told = Identity("alice", "read", {"lab": "write"}).to_json()
    HubToken.objects.update(identity=told, test_error="The Hub does not know it.")
    for path in (HUB, f"{HUB}{row.pk}/change/"):
        text = text_of(client, path)
        for word in ("publishing", "Reads what alice may read", "The Hub does not know it."):
            assert word in text
    assert "publishing" in text_of(client, f"{HUB}?q=publishing")


def test_when_the_admin_removes_a_usual_token_another_one_is_it(
    client: Client, owner: User
) -> None:
    rows = {name: vault.keep(owner, SECRET, name) for name in ("one", "two", "three")}
    client.post(f"{HUB}{rows['one'].pk}/delete/", {"post": "yes"})
    assert HubToken.objects.get(is_usual=True).name == "three"
    act(client, "delete_selected", rows["three"], at=HUB, post="yes")
    assert HubToken.objects.get(is_usual=True).name == "two"
    assert SECRET not in text_of(client, NOTES)


@pytest.mark.parametrize(
    "path", [f"{API}?digest__startswith=a", f"{API}?digest=a", f"{API}?last_four__gt=a",
             f"{HUB}?secret__startswith=g", f"{HUB}?secret__regex=.*", f"{HUB}?last_four=a",
             f"{HUB}?identity__name__startswith=a",
             f"{API}?owner__password__startswith=p", f"{HUB}?owner__email__contains=x"],
)  # fmt: skip
def test_no_query_tells_secrets_letter_by_letter(client: Client, owner: User, path: str) -> None:
    assert client.get(path).status_code == 400


def test_no_post_makes_or_changes_a_token(client: Client, owner: User) -> None:
    row, _ = api_tokens.create(owner, "a laptop")
    hub = vault.keep(owner, SECRET)
    for path in (f"{API}{row.pk}/change/", f"{HUB}{hub.pk}/change/", f"{API}add/", f"{HUB}add/"):
        form = {"name": "x", "scope": "write", "secret": "x", "digest": "x"}
        assert client.post(path, form).status_code == 403, path
    row.refresh_from_db()
    assert (row.name, row.scope) == ("a laptop", "read")


@pytest.mark.parametrize("path", ["/admin/saes/signinlink/", "/admin/saes/keptanswer/"])
def test_links_that_sign_in_and_kept_answers_have_no_page(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_log_tells_what_became_of_rows_that_are_gone(client: Client, sae: Sae) -> None:
    client.post(f"/admin/saes/sae/{key(sae)}/delete/", {"post": "yes"})
    text = text_of(client, NOTES)
    assert "residual of layer 3" in text and "26 B freed" in text
    note = LogEntry.objects.get()
    assert client.post(f"{NOTES}{note.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"{NOTES}{note.pk}/change/", {"object_repr": "x"}).status_code == 403


# --- who sees what --------------------------------------------------------------------------------

KINDS = ("sae", "job", "batch", "publication", "apitoken", "hubtoken")
BY_HAND = "training"  # the one kind that people add; see test_trainings


@pytest.mark.parametrize(
    ("role", "seen"),
    [("", ()), (roles.VIEWER, KINDS[:4]), (roles.EDITOR, KINDS[:4]), (roles.ADMIN, KINDS)],
)  # fmt: skip
def test_staff_see_what_their_role_may(owner: User, sae: Sae, role: str, seen: list[str]) -> None:
    api_tokens.create(owner, "a laptop")
    client = signed_in(staff("somebody", role))
    index = text_of(client, "/admin/")
    for kind in KINDS:
        path = f"/admin/saes/{kind}/"
        assert client.get(path).status_code == (200 if kind in seen else 403), kind
        assert (path in index) == (kind in seen), kind
        assert client.get(f"{path}add/").status_code == 403
    assert client.get(NOTES).status_code == 403
    assert client.get("/admin/auth/user/").status_code == 403


def test_an_editor_without_deleting_cannot_revoke(owner: User) -> None:
    row, token = api_tokens.create(owner, "a laptop")
    act_as = signed_in(staff("erin", roles.EDITOR))
    chosen = {"action": "revoke", "_selected_action": row.pk, "index": "0"}
    assert act_as.post(API, chosen).status_code == 403
    assert api_tokens.check(token) == row


def test_nothing_of_the_library_can_be_added_here() -> None:
    ours = {
        str(model._meta.model_name): kind
        for model, kind in admin.site._registry.items()
        if model._meta.app_label == "saes"
    }
    assert set(ours) == {*KINDS, BY_HAND}
    assert all(isinstance(kind, Rows) for kind in ours.values())


def test_deleting_a_user_names_their_tokens_without_telling_them(
    client: Client, owner: User
) -> None:
    erin = staff("erin", roles.EDITOR)
    row, token = api_tokens.create(erin, "a laptop")
    kept = vault.keep(erin, SECRET)
    text = text_of(client, f"/admin/auth/user/{erin.pk}/delete/")
    assert "a laptop" in text and "hf_…wxyz" in text
    assert not any(it in text for it in (token, row.digest, SECRET, kept.secret))
    assert client.post(f"/admin/auth/user/{erin.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not ApiToken.objects.exists() and not HubToken.objects.exists()
