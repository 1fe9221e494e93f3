"""Cancelling, retrying and deleting."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from saes import roles, services
from saes.models import Job, Sae
from tests.views.conftest import put_file

pytestmark = pytest.mark.django_db


def url(sae: Sae, verb: str) -> str:
    return f"/saes/{sae.id}/{verb}/"


# --- cancel and retry -----------------------------------------------------------------------------


def test_cancelling_stops_the_job_and_says_so(client: Client, sae: Sae, job: Job) -> None:
    answer = client.post(url(sae, "cancel"))
    assert (answer.status_code, answer["Location"]) == (302, f"/saes/{sae.id}/")
    job.refresh_from_db()
    sae.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "cancelled")


def test_cancelling_what_has_ended_changes_nothing(client: Client, sae: Sae) -> None:
    assert client.post(url(sae, "cancel")).status_code == 302
    sae.refresh_from_db()
    assert sae.status == Sae.Status.READY


def test_a_job_that_ends_at_the_same_moment_is_left_as_it_is(
    client: Client, sae: Sae, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow = roles.require_control

    def end(user: User, job: Job) -> None:
        allow(user, job)
        Job.objects.update(state=Job.State.DONE)
        Sae.objects.update(status=Sae.Status.READY)

    monkeypatch.setattr(roles, "require_control", end)
    answer = client.post(url(sae, "cancel"), headers={"hx-request": "true"})
    assert answer.status_code == 200
    assert 'data-state="ready"' in answer.content.decode()
    job.refresh_from_db()
    assert job.state == Job.State.DONE


def test_retrying_queues_a_job_of_the_same_kind(client: Client, sae: Sae, job: Job) -> None:
    client.post(url(sae, "cancel"))
    assert client.post(url(sae, "retry")).status_code == 302
    sae.refresh_from_db()
    assert (sae.status, sae.error_code) == (Sae.Status.PENDING, "")
    assert sae.active_job is not None
    assert (sae.active_job.kind, sae.active_job.state) == (job.kind, Job.State.QUEUED)


def test_retrying_during_a_job_is_a_conflict(client: Client, sae: Sae, job: Job) -> None:
    answer = client.post(url(sae, "retry"))
    assert answer.status_code == 409
    assert "Another job is at work" in answer.content.decode()
    assert sae.jobs.count() == 1


def test_retrying_what_is_ready_does_not_take_it_away(client: Client, sae: Sae) -> None:
    client.post(url(sae, "retry"))
    sae.refresh_from_db()
    assert sae.status == Sae.Status.READY


# --- delete ---------------------------------------------------------------------------------------


def test_the_dialog_names_the_bytes_that_go(client: Client, sae: Sae) -> None:
    put_file(sae, "native/big.bin", b"x" * 2_000_000)
    page = client.get(url(sae, "delete")).content.decode()
    dialog = client.get(url(sae, "delete"), headers={"hx-request": "true"}).content.decode()
    assert "<html" in page and "<html" not in dialog
    assert "<dialog" in dialog
    for text in (page, dialog):
        assert "2.0 MB" in text
        assert "keep_files" in text
    assert Sae.objects.filter(id=sae.id).exists()


def test_deleting_removes_row_and_files(client: Client, sae: Sae) -> None:
    home = services.library().home(sae.id)
    answer = client.post(url(sae, "delete"), {"csrfmiddlewaretoken": "x"})
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert not Sae.objects.filter(id=sae.id).exists()
    assert not home.exists()


def test_a_confirmation_without_any_field_is_one(client: Client, sae: Sae) -> None:
    """The CSRF token may come in a header alone."""
    assert client.post(url(sae, "delete")).status_code == 302
    assert not Sae.objects.filter(id=sae.id).exists()


def test_kept_files_move_and_storage_knows_them(client: Client, sae: Sae, data_dir: Path) -> None:
    client.post(url(sae, "delete"), {"keep_files": "on"})
    assert not Sae.objects.filter(id=sae.id).exists()
    kept = data_dir / "kept" / sae.id
    assert (kept / "source" / "cfg.json").is_file()
    assert not (data_dir / "saes" / sae.id).exists()
    text = client.get("/storage/").content.decode()
    assert f"kept/{sae.id}" in text
    answer = client.post(f"/storage/{sae.id}/remove/")
    assert (answer.status_code, answer["Location"]) == (302, "/storage/")
    assert not kept.exists()


def test_deleting_during_a_job_stops_the_job_first(client: Client, sae: Sae, job: Job) -> None:
    assert "Its job is stopped first" in client.get(url(sae, "delete")).content.decode()
    client.post(url(sae, "delete"), {"keep_files": "on"})
    assert not Job.objects.filter(id=job.id).exists()


def test_deleting_twice_is_not_found(client: Client, sae: Sae) -> None:
    client.post(url(sae, "delete"), {"x": "1"})
    assert client.post(url(sae, "delete"), {"x": "1"}).status_code == 404


def test_files_that_are_gone_already_do_not_keep_the_row(client: Client, owner: object) -> None:
    bare = Sae.objects.create(name="bare", source=Sae.Source.HUGGINGFACE)
    assert "no files on disk" in client.get(url(bare, "delete")).content.decode()
    client.post(url(bare, "delete"), {"keep_files": "on"})
    assert not Sae.objects.filter(id=bare.id).exists()


def test_a_folder_that_is_a_link_is_left_alone_and_the_row_kept(
    client: Client, owner: object, tmp_path: Path, data_dir: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    row = Sae.objects.create(name="linked", source=Sae.Source.HUGGINGFACE)
    (data_dir / "saes").mkdir()
    (data_dir / "saes" / row.id).symlink_to(elsewhere)
    answer = client.post(url(row, "delete"), {"x": "1"})
    assert answer.status_code == 422
    assert (elsewhere / "precious").exists()
    assert Sae.objects.filter(id=row.id).exists()


# --- storage --------------------------------------------------------------------------------------


def test_storage_shows_space_and_the_largest_first(client: Client, sae: Sae) -> None:
    Sae.objects.create(name="huge", source=Sae.Source.LOCAL, file_size_bytes=5 * 10**9)
    text = client.get("/storage/").content.decode()
    assert text.index("huge") < text.index(sae.name)
    assert "5.00 GB" in text


def test_storage_of_an_empty_library_has_a_page(client: Client) -> None:
    assert "No SAE takes space yet" in client.get("/storage/").content.decode()


@pytest.mark.parametrize("name", ["..", "saes", "sae_x", "%2e%2e", "..;", "sae_000000000000 ", "."])
def test_only_kept_folders_of_this_server_are_removed(
    client: Client, data_dir: Path, name: str
) -> None:
    (data_dir / "kept" / "saes").mkdir(parents=True)
    (data_dir / "precious").write_text("mine")
    assert client.post(f"/storage/{name}/remove/").status_code in (404, 422)
    assert (data_dir / "precious").exists() and (data_dir / "kept" / "saes").exists()


def test_removing_what_is_not_there_is_not_called_removed(client: Client) -> None:
    answer = client.post("/storage/sae_000000000000/remove/", follow=True)
    assert "Removed the kept files" not in answer.content.decode()
