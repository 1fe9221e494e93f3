"""Many jobs at once over the API, and batches as a whole."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from saes.models import Batch, Job, Sae
from tests.api.conftest import ApiClient, client_of, person
from tests.api.made import parsed, ready_sae

# Each wish: a state before it, and the one after; None where it stays.
MOVES: dict[str, tuple[str, str | None]] = {
    "pause": ("running", "paused"),
    "resume": ("paused", "queued"),
    "cancel": ("queued", "cancelled"),
    "front": ("queued", None),
    "retry": ("failed", None),
    "clear": ("done", None),
}


def job_of(owner: User, state: str = "queued", **more: Any) -> Job:
    status = "error" if state in ("failed", "crashed", "cancelled") else "pending"
    sae = Sae.objects.create(name="one", source="huggingface", status=status)
    return Job.objects.create(kind="download", sae=sae, created_by=owner, state=state, **more)


@pytest.mark.parametrize("verb", MOVES)
def test_jobs_that_are_named_are_changed_and_others_are_not(
    api: ApiClient, owner: User, verb: str
) -> None:
    before, after = MOVES[verb]
    mine = [job_of(owner, before) for _ in range(3)]
    path, named = f"/jobs/{verb}", {"job_ids": [mine[0].id, mine[1].id, "job_none"]}
    assert (api.post(path, named), api.status) == ({"changed": 2}, 200)
    states = [Job.objects.get(id=job.id).state for job in mine]
    assert states == [after or before] * 2 + [before]
    again = 2 if verb == "front" else 0  # to the very front, once more
    assert api.post(path, named) == {"changed": again}


@pytest.mark.parametrize("verb", MOVES)
def test_a_batch_and_all_reach_what_is_shown(api: ApiClient, owner: User, verb: str) -> None:
    batch = Batch.objects.create(name="many", created_by=owner)
    for which in (batch, batch, None):
        job_of(owner, MOVES[verb][0], batch=which)
    assert api.post(f"/jobs/{verb}", {"batch_id": batch.id}) == {"changed": 2}
    left = 3 if verb == "front" else 1
    assert api.post(f"/jobs/{verb}", {"all": True}) == {"changed": left}


def test_of_all_only_what_failed_is_retried_once_and_in_its_batch(
    api: ApiClient, owner: User, started: list[Job]
) -> None:
    batch = Batch.objects.create(name="many", created_by=owner)
    cancelled = job_of(owner, "cancelled", batch=batch)
    failed = job_of(owner, "failed", batch=batch)
    for changed in (1, 0):
        assert api.post("/jobs/retry", {"batch_id": batch.id}) == {"changed": changed}
    assert [(job.sae_id, job.batch_id) for job in started] == [(failed.sae_id, batch.id)]
    assert api.post("/jobs/retry", {"job_ids": [cancelled.id]}) == {"changed": 1}


@pytest.mark.parametrize(
    "body",
    [{}, {"job_ids": ["job_1"], "all": True}, {"job_ids": ["job_1"], "batch_id": "batch_1"},
     {"all": False}, {"job_ids": []}, {"job_ids": ["job_1"] * 1001}, {"batch_id": ""},
     {"jobs": ["job_1"]}],
)  # fmt: skip
def test_which_jobs_is_said_in_one_way(api: ApiClient, owner: User, body: dict[str, Any]) -> None:
    job = job_of(owner)
    api.post("/jobs/cancel", body)
    assert (api.status, parsed(api.last)["code"]) == (422, "bad_body")
    assert Job.objects.get(id=job.id).state == "queued"


def test_jobs_of_others_are_left_alone(owner: User, editor: User) -> None:
    theirs, own = job_of(person("ann", "editor")), job_of(editor)
    api = client_of(editor)
    for which in ({"job_ids": [theirs.id]}, {"all": True}):
        api.post("/jobs/pause", which)
    assert [Job.objects.get(id=job.id).state for job in (theirs, own)] == ["queued", "paused"]
    assert client_of(person("al", "admin")).post("/jobs/cancel", {"all": True}) == {"changed": 2}


def test_a_viewer_steers_none(editor: User, viewer: User) -> None:
    assert client_of(viewer).post("/jobs/pause", {"all": True})["code"] == "forbidden"


def test_the_same_key_gets_the_same_answer(api: ApiClient, owner: User) -> None:
    job = job_of(owner)
    for _ in range(2):
        told = api.post("/jobs/pause", {"all": True}, **{"idempotency-key": "once"})
        assert told == {"changed": 1}
        api.post(f"/jobs/{job.id}/resume")
    assert Job.objects.get().state == "queued"


def test_a_job_moves_to_the_front_unless_it_does_not_wait(api: ApiClient, owner: User) -> None:
    first, last = job_of(owner), job_of(owner)
    told = api.post(f"/jobs/{last.id}/front")
    assert (api.status, told["state"]) == (200, "queued")
    assert [job.id for job in Job.objects.due().in_turn()] == [last.id, first.id]
    for state, status in (("running", 200), ("paused", 409), ("done", 409)):
        api.post(f"/jobs/{job_of(owner, state).id}/front")
        assert api.status == status, state


def test_a_job_tells_its_batch_and_what_it_waits_for(api: ApiClient, owner: User) -> None:
    batch = Batch.objects.create(name="many")
    job = job_of(owner, batch=batch, waits_for="disk", wait_until="2030-01-01T00:00:00Z")
    told = api.get(f"/jobs/{job.id}")
    assert (told["batch_id"], told["waits_for"]) == (batch.id, "disk")
    assert told["wait_until"].startswith("2030-01-01T00:00:00")


def test_a_batch_is_told_as_a_whole(api: ApiClient, owner: User) -> None:
    batch = Batch.objects.create(name="many", hf_repo_id="a/b", created_by=owner)
    loads = {"stage": "downloading", "bytes_done": 300, "bytes_total": 1000, "progress": 50}
    job_of(owner, "running", batch=batch, **loads)
    job_of(owner, "failed", batch=batch)
    sae = ready_sae(owner)  # with one source file
    Job.objects.create(kind="download", sae=sae, created_by=owner, state="done", batch=batch)
    api.post("/jobs/retry", {"batch_id": batch.id})
    told = api.get(f"/batches/{batch.id}")
    size = sae.files.get(kind="source").size
    states = {state: n for state, n in told["states"].items() if n}
    assert (told["name"], told["total"]) == ("many", 3)
    assert states == {"running": 1, "queued": 1, "done": 1}
    assert (told["bytes_done"], told["bytes_total"]) == (300 + size, 1000 + size)
    assert (told["progress"], told["unknown_sizes"], told["created_by"]) == (50.0, 1, "owner")


def test_the_batch_of_somebody_else_is_not_there(owner: User, editor: User) -> None:
    batch = Batch.objects.create(name="many", created_by=owner)
    job_of(owner, batch=batch)
    api = client_of(editor)
    api.get(f"/batches/{batch.id}")
    assert (api.status, parsed(api.last)["code"]) == (404, "not_found")
    job_of(editor, "done", batch=batch)  # with a job of theirs they see that part of it
    assert api.get(f"/batches/{batch.id}")["total"] == 1
