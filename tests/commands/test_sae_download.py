"""`manage.py sae_download`: accepted at once, followed to its end, done here if need be."""

import io
import threading
import time

import pytest
from django.contrib.auth.models import User
from django.db import connection

from saes import jobs, processes, services, steering
from saes.models import HubToken, Job, Sae
from tests.commands.conftest import (
    GEMMA,
    GEMMA_WHERE,
    MISTUDIO,
    MISTUDIO_WHERE,
    SAELENS,
    SAELENS_WHERE,
    command,
)
from tests.hub import LocalHub, faults

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_says_which_sae_and_job_it_made_and_who_will_do_it(hub: LocalHub) -> None:
    ran = command(
        "sae_download", GEMMA, GEMMA_WHERE, "--name", "mine", "--model-name", "gemma-2-2b"
    )
    job = Job.objects.select_related("sae", "created_by").get()
    assert ran.out == f"SAE {job.sae_id}, job {job.id}\n"
    assert "make start" in ran.err
    assert job.created_by is not None and job.created_by.username == "owner"
    assert (job.sae.name, job.sae.model_name) == ("mine", "gemma-2-2b")
    assert job.sae.hf_commit == hub.repo(GEMMA).sha


def test_waiting_without_a_worker_does_the_work_here(hub: LocalHub) -> None:
    ran = command("sae_download", SAELENS, SAELENS_WHERE, "--wait", "--json")
    assert (ran.code, ran.json["sae"]["status"], ran.json["job"]["state"]) == (0, "ready", "done")
    assert Job.objects.get().worker == processes.this_process()
    assert "No worker runs, so the work is done here" in ran.err


def test_asked_again_it_says_that_the_sae_is_here(hub: LocalHub, sae: Sae) -> None:
    for more in ([], ["--wait"]):
        ran = command("sae_download", SAELENS, SAELENS_WHERE, *more)
        assert (ran.code, ran.out.splitlines()[0]) == (0, f"SAE {sae.id}")
        assert "in the library already: ready" in ran.err
    told = command("sae_download", SAELENS, SAELENS_WHERE, "--json").json
    assert (told["sae"]["id"], told["job"]) == (sae.id, None)
    assert Job.objects.count() == 1


def test_waiting_goes_on_with_what_was_left_queued(hub: LocalHub) -> None:
    command("sae_download", SAELENS, SAELENS_WHERE)
    ran = command("sae_download", SAELENS, SAELENS_WHERE, "--wait")
    assert (ran.code, Job.objects.get().state) == (0, Job.State.DONE)


def test_waiting_takes_over_from_a_worker_that_is_gone(hub: LocalHub) -> None:
    command("sae_download", SAELENS, SAELENS_WHERE)
    host = processes.this_process().split()[0]
    Job.objects.claim(Job.objects.get().id, f"{host} 4194303 1")
    assert command("sae_download", SAELENS, SAELENS_WHERE, "--wait").code == 0
    assert Job.objects.get().attempt == 2


def test_waiting_follows_a_worker_that_is_at_it(hub: LocalHub) -> None:
    command("sae_download", SAELENS, SAELENS_WHERE)
    job = Job.objects.claim(Job.objects.get().id, "elsewhere 1 1")
    assert job is not None

    def end() -> None:
        time.sleep(0.6)
        Job.objects.filter(id=job.id).update(state=Job.State.DONE)
        Sae.objects.filter(id=job.sae_id).update(status=Sae.Status.READY)
        connection.close()

    other = threading.Thread(target=end)
    other.start()
    ran = command("sae_download", SAELENS, SAELENS_WHERE, "--wait")
    other.join()
    assert ran.code == 0
    assert "done here" not in ran.err


def test_missing_facts_end_the_wait_with_the_answers_to_give(hub: LocalHub) -> None:
    ran = command("sae_download", MISTUDIO, MISTUDIO_WHERE, "--wait", "--json")
    sae = Sae.objects.get()
    assert (ran.code, ran.json["code"], ran.json["sae_id"]) == (1, "needs_facts", sae.id)
    assert f"sae_facts {sae.id} generation=1" in ran.err
    again = command("sae_download", MISTUDIO, MISTUDIO_WHERE, "--wait", "--json")
    assert (again.code, again.json["missing_facts"]) == (1, ran.json["missing_facts"])
    asked = command("sae_download", MISTUDIO, MISTUDIO_WHERE, "--json")  # nothing goes on by itself
    assert (asked.code, asked.json["code"], Job.objects.count()) == (1, "needs_facts", 1)


def test_facts_can_be_given_at_once(hub: LocalHub) -> None:
    facts = ["--fact", "generation=1", "--fact", "normalize_activations=none"]
    assert command("sae_download", MISTUDIO, MISTUDIO_WHERE, *facts, "--wait").code == 0


def test_a_failure_ends_the_wait_and_waiting_again_retries(hub: LocalHub) -> None:
    hub.faults.add(
        lambda asked: "params.npz" in asked.file, faults.corrupt(50), where="cdn", times=2
    )
    ran = command("sae_download", GEMMA, GEMMA_WHERE, "--wait", "--json")
    assert (ran.code, ran.json["code"]) == (1, "hash_mismatch")
    assert command("sae_download", GEMMA, GEMMA_WHERE, "--wait").code == 0


def test_a_paused_job_ends_the_wait(hub: LocalHub) -> None:
    command("sae_download", GEMMA, GEMMA_WHERE)
    job = Job.objects.get()
    steering.pause(None, job)
    ran = command("sae_download", GEMMA, GEMMA_WHERE, "--wait", "--json")
    assert (ran.code, ran.json["code"]) == (1, "not_ready")
    assert f"sae_jobs resume {job.id}" in ran.err


def test_a_job_that_is_deleted_meanwhile_ends_the_wait(hub: LocalHub) -> None:
    command("sae_download", SAELENS, SAELENS_WHERE)
    job = Job.objects.claim(Job.objects.get().id, "elsewhere 1 1")
    assert job is not None

    def delete() -> None:
        time.sleep(0.6)
        Sae.objects.filter(id=job.sae_id).delete()
        connection.close()

    other = threading.Thread(target=delete)
    other.start()
    ran = command("sae_download", SAELENS, SAELENS_WHERE, "--wait", "--json")
    other.join()
    assert (ran.code, ran.json["code"]) == (1, "not_found")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["someone/nothing", "x"], "repository_not_found"),
        ([GEMMA, "layer_99"], "path_not_found"),
        ([GEMMA, GEMMA_WHERE, "--fact", "k=many"], "bad_fact"),
        (["no repo"], "bad_name"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    hub: LocalHub, words: list[str], code: str
) -> None:
    ran = command("sae_download", *words, "--json")
    assert (ran.code, ran.json["code"]) == (1, code)
    assert not Sae.objects.exists()


def test_a_token_by_standard_input_is_for_this_job_alone(
    hub: LocalHub, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hf_alice_1111\n"))
    ran = command("sae_download", "alice/private", SAELENS_WHERE, "--token-stdin")
    assert ran.code == 0
    assert Job.objects.get().token == HubToken.objects.get(for_one_job=True)
    assert command("sae_download", "alice/private", SAELENS_WHERE).code == 1
    jobs.run(Job.objects.get().id)
    assert services.sae_of(Job.objects.get().sae_id).status == Sae.Status.READY
    assert not HubToken.objects.exists()
