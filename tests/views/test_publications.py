"""What was published: its page, its steering, the history, and who may know of it."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from saes import jobs, roles, vault
from saes.models import HubToken, Job, Publication, Sae
from saes.templatetags.publishing import announced
from tests.hub import LocalHub
from tests.views.conftest import TARGET, WRITER, published, signed_in
from tests.views.people import somebody

pytestmark = pytest.mark.django_db(transaction=True)
HTMX = {"hx-request": "true"}


@pytest.fixture
def job(client: Client, whole_sae: Sae, writer: HubToken) -> Job:
    """Queued: it publishes to a private repository."""
    return published(client, whole_sae, token=writer)


@pytest.fixture
def page(job: Job) -> str:
    return f"/publish/{job.publication_id}/"


def text(client: Client, path: str, **more: Any) -> str:
    return client.get(path, **more).content.decode()


def run(job: Job) -> Job:
    jobs.run(job.id)
    return Job.objects.get(id=job.id)


# --- its page -------------------------------------------------------------------------------------


def test_it_says_how_far_it_is(client: Client, job: Job, page: str) -> None:
    assert "Queued" in text(client, page) and 'content="5"' in text(client, page)
    Job.objects.filter(id=job.id).update(
        state=Job.State.RUNNING, stage="uploading", progress=60, bytes_done=10**9,
        bytes_total=2 * 10**9, bytes_per_second=10**8, file_name="layer_0/sae_weights.safetensors",
    )  # fmt: skip
    for path in (page, f"{page}live/"):
        said = text(client, path)
        assert "1.00 of 2.00 GB · 100.0 MB/s · 10 s left" in said and "60 %" in said
        assert 'value="60.0"' in said and "Uploading" in said


def test_in_the_end_it_has_commit_link_and_code_that_loads_it(
    client: Client, job: Job, page: str, hub: LocalHub
) -> None:
    assert "SAE.from_pretrained(" not in text(client, page)
    assert run(job).state == Job.State.DONE
    said, sha = text(client, page), hub.repo(TARGET).sha
    assert f'data-copy-text="{sha}"' in said
    assert f'href="{hub.url}/{TARGET}/commit/{sha}"' in said
    assert "release=&#x27;alice/published&#x27;" in said and "sae_id=&#x27;layer_0&#x27;" in said
    assert "read back and compared" in said and "http-equiv" not in said


def test_a_pull_request_is_linked(
    client: Client, whole_sae: Sae, writer: HubToken, hub: LocalHub
) -> None:
    hub.add_repo(TARGET, {"README.md": b"# x"}, private=True)
    job = run(published(client, whole_sae, token=writer, as_pull_request="on"))
    row = Publication.objects.get()
    assert job.state == Job.State.DONE and row.pull_request
    said = text(client, f"/publish/{row.id}/")
    assert f'href="{row.pull_request}"' in said and "once the pull request is merged" in said


def test_an_address_that_is_none_of_the_web_is_no_link(client: Client, job: Job, page: str) -> None:
    run(job)
    Publication.objects.update(commit_url="javascript:alert(1)")
    for path in (page, "/publish/history/"):
        assert "javascript:" not in text(client, path)


def test_a_failure_has_its_code_and_its_next_step(
    client: Client, job: Job, page: str, hub: LocalHub
) -> None:
    hub.add_repo(TARGET, {"layer_0/cfg.json": b"{}"}, private=True)
    assert run(job).error_code == "target_moved"
    said = text(client, page)
    assert "target_moved" in said and "Failed" in said and "Rehearse again" in said
    assert f"/publish/?publication={job.publication_id}" in said
    again = text(client, f"/publish/?publication={job.publication_id}")
    assert f'value="{TARGET}"' in again and f'name="folder-{job.sae_id}" value="layer_0"' in again
    assert '<option value="mit" selected>' in again
    other = signed_in(somebody("other", roles.EDITOR))
    assert other.get(f"/publish/?publication={job.publication_id}").status_code == 404


def test_what_is_left_without_its_first_sae_is_shown(
    client: Client, whole_saes: list[Sae], writer: HubToken
) -> None:
    job = published(client, *whole_saes, token=writer)
    whole_saes[0].delete()
    said = text(client, f"/publish/{job.publication_id}/")
    assert "deleted from the library" in said and "Failed" in said


# --- steering -------------------------------------------------------------------------------------


def test_it_is_paused_resumed_cancelled_and_retried(client: Client, job: Job, page: str) -> None:
    for verb, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert client.post(f"{page}steer/{verb}/")["Location"] == page
        job.refresh_from_db()
        assert job.state == state
    assert "Cancelled" in text(client, page)
    part = client.post(f"{page}steer/retry/", headers=HTMX).content.decode()
    assert part.lstrip().startswith('<div class="live') and "Queued" in part
    again = Job.objects.get(state=Job.State.QUEUED)
    assert (again.publication_id, again.token) == (job.publication_id, job.token)
    assert run(again).state == Job.State.DONE


def test_steering_what_has_ended_changes_nothing(client: Client, job: Job, page: str) -> None:
    run(job)
    for verb in ("pause", "cancel", "retry"):
        assert client.post(f"{page}steer/{verb}/").status_code == 302
    assert Job.objects.filter(kind=Job.Kind.PUBLISH).get().state == Job.State.DONE
    assert client.post(f"{page}steer/publish/").status_code == 404


# --- the history ----------------------------------------------------------------------------------


def test_the_history_says_where_what_when_and_by_whom(
    client: Client, job: Job, owner: User, hub: LocalHub
) -> None:
    run(job)
    for path in ("/publish/history/", f"/saes/{job.sae_id}/"):
        said = text(client, path)
        for it in (TARGET, "layer_0", hub.repo(TARGET).sha[:10], "Published", owner.username):
            assert it in said, (path, it)


def test_an_empty_history_says_what_will_be_there(client: Client) -> None:
    assert "You have published nothing yet" in text(client, "/publish/history/")


def test_a_long_history_has_pages(client: Client, owner: User) -> None:
    Publication.objects.bulk_create(
        Publication(repo_id=f"a/r-{n}", created_by=owner) for n in range(60)
    )
    assert text(client, "/publish/history/").count('class="name"') == 50
    assert text(client, "/publish/history/?page=2").count('class="name"') == 10


def test_the_history_asks_the_database_as_often_whatever_its_length(
    client: Client, owner: User, whole_sae: Sae, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        row = Publication.objects.create(repo_id=f"a/r-{number}", created_by=owner)
        Job.objects.create(
            kind=Job.Kind.PUBLISH, sae=whole_sae, publication=row, state=Job.State.DONE
        )
    with django_assert_max_num_queries(14):
        text(client, "/publish/history/")


# --- who may know of it ---------------------------------------------------------------------------


@pytest.mark.parametrize("role", [roles.VIEWER, roles.EDITOR])
def test_nobody_else_learns_the_name_of_a_private_repository(
    client: Client, job: Job, page: str, role: str
) -> None:
    other = signed_in(somebody("other", role))
    run(job)
    for path in ("/publish/history/", f"/saes/{job.sae_id}/", "/jobs/", "/"):
        assert TARGET not in text(other, path), path
    for path in (page, f"{page}live/", f"{page}no-such-page/"):
        assert other.get(path).status_code == 404
    assert TARGET in text(signed_in(somebody("admin", roles.ADMIN)), "/publish/history/")


def test_viewers_are_offered_nothing_and_refused(client: Client, whole_sae: Sae) -> None:
    viewer = signed_in(somebody("viewer", roles.VIEWER))
    for path in ("/", f"/saes/{whole_sae.id}/", "/publish/history/"):
        assert not re.search(r'href="/publish/(\?[^"]*)?"', text(viewer, path)), path
    for path in ("/publish/", f"/publish/?sae={whole_sae.id}"):
        answer = viewer.get(path)
        assert answer.status_code == 403 and b"forbidden" in answer.content
    assert viewer.post("/publish/rehearse/", {"sae": whole_sae.id}).status_code == 403


def test_whoever_is_not_signed_in_is_sent_to_sign_in(job: Job, page: str) -> None:
    for path in ("/publish/", "/publish/history/", page):
        assert Client().get(path)["Location"].startswith("/sign-in/?next=/publish/")


def test_a_publication_of_an_editor_runs_with_their_own_token(whole_sae: Sae, owner: User) -> None:
    editor = somebody("editor", roles.EDITOR)
    vault.keep(None, "hf_the_servers_own")
    mine = vault.keep(editor, WRITER)
    job = published(signed_in(editor), whole_sae, token=mine)
    assert job.token == mine and run(job).state == Job.State.DONE


# --- Activity -------------------------------------------------------------------------------------


def test_the_page_activity_names_the_repository_and_links_to_its_page(
    client: Client, job: Job, page: str
) -> None:
    Job.objects.filter(id=job.id).update(state=Job.State.RUNNING, stage="converting")
    said = text(client, "/jobs/?kind=publish")
    assert f'href="{page}"' in said and TARGET in said and "Publish layer_0" in said
    assert "icons.svg#world-upload" in said


def test_every_drawing_of_a_kind_of_job_exists() -> None:
    from saes.templatetags.activity import KINDS
    from tests.apps import ROOT

    drawings = (ROOT / "static" / "icons.svg").read_text()
    assert set(KINDS) == set(Job.Kind)
    assert all(f'id="{name}"' in drawings for name in KINDS.values())


def test_a_list_with_something_on_its_way_looks_again(client: Client, job: Job) -> None:
    for path in ("/publish/history/", f"/saes/{job.sae_id}/"):
        assert "data-poll" in client.get(path).content.decode(), path
    assert '<meta http-equiv="refresh"' in client.get("/publish/history/").content.decode()
    Job.objects.update(state=Job.State.FAILED)
    for path in ("/publish/history/", f"/saes/{job.sae_id}/"):
        assert "data-poll" not in client.get(path).content.decode(), path


def test_what_is_announced_changes_at_each_quarter(job: Job) -> None:
    assert job.publication is not None
    said = []
    for progress in (3.0, 26.0, 49.0, 51.0):
        job.publication.jobs.update(state=Job.State.RUNNING, progress=progress)
        said.append(announced(Publication.objects.get(id=job.publication_id)))
    assert [it.partition(", ")[2] for it in said] == ["", "25 %", "25 %", "50 %"]


def test_a_pull_request_counts_as_proposed(client: Client, job: Job, page: str) -> None:
    Publication.objects.update(
        verified_at=timezone.now(), commit="a" * 40, pull_request="https://hub.example/x/pulls/1"
    )
    assert "Proposed" in client.get(page).content.decode()
    assert "Proposed" in client.get("/publish/history/").content.decode()


def test_nothing_is_called_visible_before_it_is_there(client: Client, job: Job, page: str) -> None:
    Publication.objects.update(public=True, makes_public=True, created=True)
    Job.objects.update(
        state=Job.State.CANCELLED, error_message="Cancelled.", error_code="cancelled"
    )
    text = client.get(page).content.decode()
    assert "everybody may see it" not in text and "once it is verified" in text
    assert "was created for it, and is empty and private" in text
    assert "Rehearse again" in text and text.count("Cancelled") == 2  # what it is, and is announced
    assert "everybody" not in client.get("/publish/history/").content.decode()


def test_the_history_is_searched_by_repository_sae_and_folder(client: Client, job: Job) -> None:
    assert job.publication is not None
    row = job.publication.saes.get()
    for word in (TARGET, row.name, row.folder, TARGET.upper()):
        page = client.get("/publish/history/", {"search": word}).content.decode()
        assert f"/publish/{job.publication_id}/" in page, word
    assert "No publication matches" in client.get("/publish/history/?search=zz").content.decode()
    assert client.get("/publish/history/?search=%00").status_code == 200
