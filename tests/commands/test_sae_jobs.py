"""`manage.py sae_jobs`: who works at what, and how to stop it or go on."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from saes import jobs, vault
from saes.models import Batch, Job, Sae
from tests.commands.conftest import GEMMA, GEMMA_WHERE, SAELENS, SAELENS_WHERE, command
from tests.hub import LocalHub

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(hub: LocalHub, owner: User) -> Job:
    """It waits for a worker."""
    command("sae_download", GEMMA, GEMMA_WHERE)
    return Job.objects.get()


def test_it_is_a_table_of_what_has_not_ended(job: Job, sae: Sae) -> None:
    ran = command("sae_jobs")
    head, row = ran.out.splitlines()
    assert head.split()[:4] == ["id", "kind", "state", "%"]
    assert row.split()[:3] == [job.id, "download", "queued"]
    assert "1 of 1 job." in ran.err and "No worker runs" in ran.err
    assert len(command("sae_jobs", "--all").out.splitlines()) == 3
    (done,) = command("sae_jobs", "--state", "done", "--json").json["data"]
    assert (done["sae_id"], done["progress"], done["status"]) == (sae.id, 100.0, "ready")


def test_a_job_is_paused_resumed_cancelled_and_retried(job: Job) -> None:
    states = []
    for action in ("pause", "pause", "resume", "cancel", "cancel"):
        (told,) = command("sae_jobs", action, job.id, "--json").json["jobs"]
        states.append(told["state"])
    assert states == ["paused", "paused", "queued", "cancelled", "cancelled"]
    (new,) = command("sae_jobs", "retry", job.id, "--json").json["jobs"]
    assert (new["state"], new["id"] != job.id) == ("queued", True)
    jobs.run(new["id"])
    assert Sae.objects.get().status == Sae.Status.READY


def test_a_retry_is_in_the_name_and_with_the_token_of_who_began_it(
    hub: LocalHub, owner: User
) -> None:
    alice = User.objects.create_superuser("alice")
    vault.keep(alice, "hf_alice_1111")
    command("sae_download", "alice/private", SAELENS_WHERE, "--user", "alice")
    first = Job.objects.get()
    command("sae_jobs", "cancel", first.id)
    command("sae_jobs", "retry", first.id)
    again = Job.objects.exclude(id=first.id).get()
    assert (again.created_by, again.token) == (alice, vault.of(alice))


def test_each_is_answered_for_by_itself(job: Job, sae: Sae) -> None:
    done = sae.jobs.get()
    ran = command("sae_jobs", "pause", "job_000000000000", done.id, job.id, "--json")
    assert (ran.code, [it["id"] for it in ran.json["jobs"]]) == (1, [job.id])
    codes = {job_id: error["code"] for job_id, error in ran.json["errors"].items()}
    assert codes == {"job_000000000000": "not_found", done.id: "conflict"}


def test_what_has_ended_otherwise_is_not_cancelled(sae: Sae) -> None:
    ran = command("sae_jobs", "cancel", sae.jobs.get().id, "--json")
    assert (ran.code, [error["code"] for error in ran.json["errors"].values()]) == (1, ["conflict"])


@pytest.mark.parametrize(
    "words",
    [["cancel"], ["cancel", "job_1", "--all-jobs"], ["pause", "job_1", "--batch", "batch_1"],
     ["pause", "--batch", "batch_1", "--all-jobs"], ["--all-jobs"]],
)  # fmt: skip
def test_an_action_is_for_jobs_a_batch_or_all(hub: LocalHub, owner: User, words: list[str]) -> None:
    assert command("sae_jobs", *words).code == 2


def test_a_job_moves_to_the_front_and_is_cleared_away_when_it_has_ended(job: Job) -> None:
    assert command("sae_jobs", "front", job.id).code == 0
    assert Job.objects.get().turn < 0
    assert command("sae_jobs", "clear", job.id).code == 1
    command("sae_jobs", "cancel", job.id)
    assert command("sae_jobs", "front", job.id).code == 1
    assert command("sae_jobs", "clear", job.id).code == 0
    assert not Job.objects.get().listed


def test_a_batch_is_listed_and_steered_and_so_are_all(job: Job, owner: User) -> None:
    batch = Batch.objects.create(name="many", created_by=owner)
    other = Job.objects.create(
        kind="download", sae=Sae.objects.create(name="b", source="local"), batch=batch
    )
    listed = command("sae_jobs", "--batch", batch.id).out
    assert other.id in listed and job.id not in listed
    assert command("sae_jobs", "pause", "--batch", batch.id, "--json").json == {"changed": 1}
    assert command("sae_jobs", "pause", "--all-jobs").out == "1 job changed.\n"
    assert set(Job.objects.values_list("state", flat=True)) == {"paused"}
    assert command("sae_jobs", "cancel", "--batch", "batch_none").code == 1


def test_what_failed_of_all_is_retried_in_the_name_of_who_began_it(job: Job) -> None:
    alice = User.objects.create_superuser("alice")
    Job.objects.filter(id=job.id).update(created_by=alice, state="failed")
    Sae.objects.update(status="error")
    assert command("sae_jobs", "retry", "--all-jobs", "--json").json == {"changed": 1}
    assert Job.objects.get(state="queued").created_by == alice


def test_the_list_says_what_a_job_waits_for(job: Job) -> None:
    assert "Waiting for a worker" in command("sae_jobs").out
    until = timezone.now() + timedelta(seconds=90)
    Job.objects.update(waits_for="hub", wait_until=until, message="Rate limited by the Hub")
    assert "Rate limited by the Hub, goes on in 1 min" in command("sae_jobs").out


def test_what_is_ready_is_not_retried(sae: Sae) -> None:
    assert SAELENS in sae.hf_repo_id
    ran = command("sae_jobs", "retry", sae.jobs.get().id)
    assert ran.code == 1
    assert "Only a job that failed or was cancelled" in ran.err
