"""Deleting SAEs in the admin: bytes are named before, files go or are kept, notes stay."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory

from saes import roles, services, steering
from saes.admin import deleting
from saes.models import Job, Sae
from tests.admin.conftest import SAES, act, key, many, put_file, signed_in, staff

pytestmark = pytest.mark.django_db
CONFIRMED = {"post": "yes"}


def home(sae: Sae) -> Path:
    return services.library().home(sae.id)


@pytest.fixture
def large(owner: User) -> Sae:
    (made,) = many(1, owner)
    put_file(made, "source/weights.npz", b"x" * 2_500_000)
    return made


def test_the_page_names_bytes_and_jobs_and_deletes_nothing(
    client: Client, sae: Sae, large: Sae
) -> None:
    text = act(client, "delete_selected", sae, large)
    assert "Deleting frees <b>2.5 MB</b>" in text
    assert "<td>26 B</td>" in text and "<td>2.5 MB</td>" in text
    assert "Download, queued: it is stopped first" in text
    assert Sae.objects.count() == 2 and home(sae).exists()
    assert not LogEntry.objects.exists()


def test_confirmed_it_removes_rows_files_and_stops_jobs(
    client: Client, sae: Sae, large: Sae
) -> None:
    text = act(client, "delete_selected", sae, large, **CONFIRMED)
    assert "2 deleted, 2.5 MB freed." in text
    assert not Sae.objects.exists() and not Job.objects.exists()
    assert not home(sae).exists() and not home(large).exists()
    notes = LogEntry.objects.filter(action_flag=DELETION)
    assert {note.object_id for note in notes} == {sae.id, large.id}
    assert "2.5 MB freed" in notes.get(object_id=large.id).change_message


def test_files_can_be_kept(client: Client, sae: Sae) -> None:
    text = act(client, "delete_selected", sae, **CONFIRMED, keep_files="on")
    assert "1 deleted, 26 B kept in the folder kept/." in text
    (kept,) = services.library().kept()
    assert kept.name == sae.id
    assert f"kept/{sae.id}" in LogEntry.objects.get().change_message


def test_the_button_of_one_sae_asks_and_deletes_likewise(client: Client, large: Sae) -> None:
    path = f"{SAES}{key(large)}/delete/"
    text = client.get(path).content.decode()
    assert "Deleting frees <b>2.5 MB</b>" in text and "it is stopped first" in text
    assert Sae.objects.exists()
    answer = client.post(path, CONFIRMED, follow=True)
    assert answer.redirect_chain == [(SAES, 302)]
    assert not Sae.objects.exists() and not home(large).exists()
    assert LogEntry.objects.get().action_flag == DELETION


def test_its_files_can_be_kept_too(client: Client, sae: Sae) -> None:
    client.post(f"{SAES}{key(sae)}/delete/", {**CONFIRMED, "keep_files": "on"})
    assert [it.name for it in services.library().kept()] == [sae.id]


@pytest.mark.django_db(transaction=True)
def test_a_worker_sees_the_cancelling_before_its_files_are_waited_for(
    client: Client, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one transaction it would wait for a lock that the worker cannot know it should give."""
    open_transactions = []
    remove = steering.delete_sae

    def noted(*args: Any, **kwargs: Any) -> str:
        open_transactions.append(connection.in_atomic_block)
        return remove(*args, **kwargs)

    monkeypatch.setattr(steering, "delete_sae", noted)
    client.post(f"{SAES}{key(job.sae)}/delete/", CONFIRMED)
    assert open_transactions == [False] and not Sae.objects.exists()


def test_djangos_own_ways_of_deleting_remove_files_too(owner: User, sae: Sae, large: Sae) -> None:
    request = RequestFactory().post(SAES)
    request.user = owner
    kind = admin.site._registry[Sae]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "message_user", lambda *args: None)
        kind.delete_model(request, sae)
        kind.delete_queryset(request, Sae.objects.all())
    assert not Sae.objects.exists()
    assert not home(sae).exists() and not home(large).exists()
    assert LogEntry.objects.count() == 2


def test_a_folder_that_is_a_link_is_refused_and_the_others_go(
    client: Client, sae: Sae, large: Sae, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    home(sae).rename(outside)
    home(sae).symlink_to(outside)
    text = act(client, "delete_selected", sae, large, **CONFIRMED)
    assert "1 deleted" in text and "1 refused: residual of layer 3: The folder of" in text
    assert list(Sae.objects.all()) == [sae] and (outside / "source").is_dir()
    assert [it.object_id for it in LogEntry.objects.all()] == [large.id]


def test_the_job_of_somebody_else_is_named_and_refused(sae: Sae, large: Sae) -> None:
    client = signed_in(staff("erin", roles.EDITOR))
    assert "this SAE will be refused" in act(client, "delete_selected", sae, large)
    text = act(client, "delete_selected", sae, large, **CONFIRMED)
    assert "1 deleted, 26 B freed, 1 refused: number 0: Somebody else" in text
    assert list(Sae.objects.all()) == [large] and home(large).exists()


def test_too_many_at_once_are_refused(
    client: Client, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleting, "MOST", 3)
    text = act(client, "delete_selected", *many(4), **CONFIRMED)
    assert "choose at most 3 of these 4" in text
    assert Sae.objects.count() == 4


@pytest.mark.parametrize("role", ["", roles.VIEWER])
def test_who_may_not_delete_is_refused(sae: Sae, role: str) -> None:
    client = signed_in(staff("vera", role))
    for method in (client.get, client.post):
        assert method(f"{SAES}{key(sae)}/delete/", CONFIRMED).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": sae.id, "index": "0"}
    client.post(SAES, {**chosen, **CONFIRMED})
    assert Sae.objects.exists() and home(sae).exists()
    if role:
        assert "Delete, with their files" not in client.get(SAES).content.decode()
        assert "deletelink" not in client.get(f"{SAES}{key(sae)}/change/").content.decode()


def test_nothing_is_deleted_without_the_forms_token(owner: User, sae: Sae) -> None:
    client = signed_in(owner, enforce_csrf_checks=True)
    assert client.post(f"{SAES}{key(sae)}/delete/", CONFIRMED).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": sae.id}
    assert client.post(SAES, {**chosen, **CONFIRMED}).status_code == 403
    assert Sae.objects.exists()
