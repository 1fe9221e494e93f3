"""Jobs over the API: lists, and steering them."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from saes import services, vault
from saes.models import Batch, HubToken, Job, Sae
from saes.parts import held_in
from tests.api.conftest import BASE, ApiClient, client_of, person, work
from tests.api.made import gpt2_sae, in_folder, parsed, ready_sae, running_job
from tests.apps import wait_for
from tests.hub import LocalHub, faults
from tests.jobs.test_download import in_background, is_body

FIELDS = {
    "id", "kind", "sae_id", "state", "status", "stage", "message", "progress", "file",
    "file_index", "file_count", "bytes_done", "bytes_total", "bytes_per_second", "seconds_left",
    "attempt", "created_by", "error_code", "error_message", "solution", "created_at",
    "started_at", "ended_at", "target", "batch_id", "publication_id", "waits_for", "wait_until",
}  # fmt: skip
BODY = {"repo_id": "me/saes", "filepath": "layer_6"}
WEIGHTS = "sae_weights.safetensors"


@pytest.fixture
def repo(hub: LocalHub) -> None:
    hub.add_repo("me/saes", in_folder("layer_6", gpt2_sae(6)))


def job_of(owner: User, state: str = Job.State.QUEUED, kind: str = Job.Kind.DOWNLOAD) -> Job:
    sae = ready_sae(owner, status=Sae.Status.PENDING)
    return Job.objects.create(kind=kind, sae=sae, created_by=owner, state=state)


def test_a_job_has_every_field(api: ApiClient, owner: User) -> None:
    job = job_of(owner)
    told = api.get(f"/jobs/{job.id}")
    assert set(told) == FIELDS
    assert (told["state"], told["status"], told["created_by"]) == ("queued", "pending", "owner")
    assert api.get("/jobs")["data"] == [told]


def test_lists_are_paged_and_filtered(api: ApiClient, owner: User) -> None:
    made = [job_of(owner) for _ in range(3)]
    made.append(job_of(owner, Job.State.FAILED, Job.Kind.VERIFY))
    first = api.get("/jobs?limit=3")
    assert [job["id"] for job in first["data"]] == [job.id for job in made[:0:-1]]
    assert first["pagination"] == {"skip": 0, "limit": 3, "total": 4, "has_more": True}
    assert [job["id"] for job in api.get("/jobs?skip=3")["data"]] == [made[0].id]
    batch = Batch.objects.create(name="many")
    Job.objects.filter(id=made[3].id).update(batch=batch)
    for query in (
        "state=failed",
        "kind=verify",
        f"sae_id={made[3].sae_id}",
        f"batch_id={batch.id}",
    ):
        assert [job["id"] for job in api.get(f"/jobs?{query}")["data"]] == [made[3].id], query
    assert api.get("/jobs?state=failed&kind=download")["data"] == []
    assert api.get("/jobs?state=nothing")["code"] == "bad_request"


def test_the_jobs_of_others_are_not_there(owner: User, editor: User) -> None:
    theirs, mine = job_of(person("ann", "editor")), job_of(editor)
    api = client_of(editor)
    assert [job["id"] for job in api.get("/jobs")["data"]] == [mine.id]
    assert api.get(f"/jobs?sae_id={theirs.sae_id}")["pagination"]["total"] == 0
    api.get(f"/jobs/{theirs.id}")
    unknown = parsed(api.last)
    for act in ("cancel", "pause", "resume", "retry", "front"):
        api.post(f"/jobs/{theirs.id}/{act}")
        assert (api.status, parsed(api.last)["code"]) == (404, "not_found"), act
    api.get("/jobs/job_0123456789ab")
    assert parsed(api.last)["detail"].replace("job_0123456789ab", theirs.id) == unknown["detail"]
    theirs.refresh_from_db()
    assert theirs.state == Job.State.QUEUED


def test_admins_reach_every_job(editor: User) -> None:
    job = job_of(editor)
    for admin in (person("ada", "admin"), User.objects.create_superuser("root")):
        assert [it["id"] for it in client_of(admin).get("/jobs")["data"]] == [job.id]
    assert client_of(person("al", "admin")).post(f"/jobs/{job.id}/pause")["state"] == "paused"


def test_a_viewer_sees_jobs_from_before_and_steers_none(editor: User) -> None:
    job = job_of(editor)
    editor.groups.clear()
    api = client_of(editor)
    assert api.get(f"/jobs/{job.id}")["id"] == job.id
    assert api.post(f"/jobs/{job.id}/cancel")["code"] == "forbidden"


def test_cancelling_twice_cancels_once(api: ApiClient, owner: User) -> None:
    job = job_of(owner)
    told = api.post(f"/jobs/{job.id}/cancel")
    assert (api.status, told["state"], told["status"]) == (200, "cancelled", "error")
    assert told["error_code"] == "cancelled" and told["ended_at"]
    assert (api.post(f"/jobs/{job.id}/cancel"), api.status) == (told, 200)
    assert api.get(f"/saes/{job.sae_id}")["status"] == "error"


def test_pausing_and_resuming_twice_is_as_once(
    api: ApiClient, owner: User, started: list[Job]
) -> None:
    job = job_of(owner)
    for _ in range(2):
        told = api.post(f"/jobs/{job.id}/pause")
        assert (api.status, told["state"], told["status"]) == (200, "paused", "paused")
    assert api.get(f"/saes/{job.sae_id}")["status"] == "paused"
    for _ in range(2):
        told = api.post(f"/jobs/{job.id}/resume")
        assert (api.status, told["state"], told["status"]) == (200, "queued", "pending")
    assert [it.id for it in started] == [job.id]


@pytest.mark.parametrize("state", ["done", "failed", "crashed", "cancelled"])
def test_what_has_ended_stays_as_it_is(api: ApiClient, owner: User, state: str) -> None:
    job = job_of(owner, state)
    for act in ("pause", "resume", "cancel"):
        told = api.post(f"/jobs/{job.id}/{act}")
        if (act, state) == ("cancel", "cancelled"):  # as it was wished
            assert (api.status, told["state"]) == (200, "cancelled")
        else:
            assert (api.status, told["code"]) == (409, "conflict")
    assert Job.objects.get().state == state


@pytest.mark.parametrize("state", ["queued", "running", "paused", "done"])
def test_only_what_failed_can_be_retried(api: ApiClient, owner: User, state: str) -> None:
    job = job_of(owner, state)
    assert (api.post(f"/jobs/{job.id}/retry")["code"], api.status) == ("conflict", 409)
    assert Job.objects.count() == 1


def test_retrying_makes_a_new_job_once(api: ApiClient, owner: User, started: list[Job]) -> None:
    job = job_of(owner, Job.State.FAILED)
    told = api.post(f"/jobs/{job.id}/retry")
    assert (api.status, told["state"], told["kind"]) == (202, "queued", "download")
    assert told["id"] != job.id and [it.id for it in started] == [told["id"]]
    assert api.post(f"/jobs/{job.id}/retry")["code"] == "conflict"
    assert api.get(f"/jobs/{job.id}")["state"] == "failed"


def test_a_job_is_retried_without_a_body_too(api: ApiClient, owner: User) -> None:
    job = job_of(owner, Job.State.FAILED)
    path, headers = f"{BASE}/jobs/{job.id}/retry", {"authorization": f"Bearer {api.token}"}
    answer = Client().post(path, b"", "application/json", headers=headers)
    assert answer.status_code == 202


def test_a_retry_takes_a_token_for_its_job(api: ApiClient, owner: User, started: list[Job]) -> None:
    job = job_of(owner, Job.State.CANCELLED)
    told = api.post(f"/jobs/{job.id}/retry", {"access_token": "hf_again_1234567"})
    row = HubToken.objects.get()
    assert (started[0].id, started[0].token_id) == (told["id"], row.id)
    assert vault.reveal(row) == "hf_again_1234567"
    api.post(f"/jobs/{told['id']}/cancel")
    assert not HubToken.objects.exists()


def test_a_retry_that_needs_no_token_keeps_none(api: ApiClient, owner: User) -> None:
    job = Job.objects.create(
        kind=Job.Kind.VERIFY, sae=ready_sae(owner), created_by=owner, state=Job.State.FAILED
    )
    assert api.post(f"/jobs/{job.id}/retry", {"access_token": "hf_x_12345678"})["kind"] == "verify"
    assert not HubToken.objects.exists()


def test_a_retry_that_is_refused_keeps_no_token(api: ApiClient, owner: User) -> None:
    job = job_of(owner, Job.State.DONE)
    api.post(f"/jobs/{job.id}/retry", {"access_token": "hf_x_12345678"})
    assert (api.status, HubToken.objects.count()) == (409, 0)


def test_a_running_job_tells_how_far_it_is(api: ApiClient, owner: User) -> None:
    job = running_job(ready_sae(owner, status=Sae.Status.DOWNLOADING), owner)
    Job.objects.filter(id=job.id).update(
        stage="downloading", bytes_done=25, bytes_total=100, bytes_per_second=5, progress=20.04
    )
    told = api.get(f"/jobs/{job.id}")
    assert (told["status"], told["progress"], told["seconds_left"]) == ("downloading", 20.0, 15.0)
    assert api.get(f"/saes/{job.sae_id}")["progress"] == 20.0


def test_resuming_goes_on_where_pausing_stopped(
    api: ApiClient, hub: LocalHub, repo: None, started: list[Job]
) -> None:
    hub.faults.add(is_body, faults.slow(20_000), where="cdn")
    job_id = api.post("/saes/download", BODY)["job_id"]
    worker = in_background(started.pop())
    wait_for(lambda: api.get(f"/jobs/{job_id}")["bytes_done"] > 5_000)
    assert api.post(f"/jobs/{job_id}/pause")["state"] == "paused"
    worker.join()
    kept = sum(held_in(folder) for folder in services.library().root.glob("saes/*/parts"))
    hub.log.clear()
    assert kept > 5_000 and api.get(f"/jobs/{job_id}")["state"] == "paused"
    assert api.post(f"/jobs/{job_id}/resume")["state"] == "queued"
    work(started)
    told = api.get(f"/jobs/{job_id}")
    assert (told["state"], told["progress"], told["attempt"]) == ("done", 100, 2)
    [fetched] = [entry for entry in hub.log.requests(WEIGHTS) if entry.range and entry.sent > 5000]
    assert fetched.range == (kept, size_of(hub))


def size_of(hub: LocalHub) -> int:
    return hub.repo("me/saes").head.files[f"layer_6/{WEIGHTS}"].size


def test_the_answer_names_nobody_else(editor: User) -> None:
    job = job_of(editor)
    told: Any = client_of(editor).get(f"/jobs/{job.id}")
    assert not {"lease", "worker", "traceback", "token", "token_id"} & set(told)
