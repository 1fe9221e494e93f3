"""From a repository to a certified SAE: the pipeline on real samples, over real sockets."""

import threading
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from saes import jobs, moves, queueing, services, steering
from saes.arrivals import DownloadRequest
from saes.errors import AlreadyHere, DataMissing
from saes.hub import RepoRef
from saes.models import Job, Sae, SaeFile
from tests.apps import wait_for
from tests.hub import LocalHub, faults
from tests.hub.answers import Request
from tests.jobs.conftest import sample_files

pytestmark = pytest.mark.django_db(transaction=True)
GEMMA = "layer_12/width_16k/average_l0_41"


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests call run() as a worker would; the queue itself is tested with real workers."""
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)


def bring_in(repo: str, where: str, **more: Any) -> Sae:
    job = jobs.start_arrival(None, DownloadRequest(RepoRef(repo), where, **more), None)
    jobs.run(job.id)
    return Sae.objects.get(id=job.sae_id)


def test_a_gemma_scope_sae_becomes_ready_with_a_certificate(hub: LocalHub) -> None:
    hub.add_repo("google/gemma-scope-2b-pt-res", sample_files("gemma_scope_1_res"))
    sae = bring_in("google/gemma-scope-2b-pt-res", GEMMA)
    assert (sae.status, sae.error_message) == (Sae.Status.READY, "")
    assert sae.certificate is not None
    assert sae.certificate["passed"]
    assert (sae.layer, sae.d_in, sae.d_sae, sae.architecture) == (12, 16, 64, "jumprelu")
    assert sae.format == "gemma_scope_1"
    kinds = set(sae.files.values_list("kind", flat=True))
    assert kinds == {SaeFile.Kind.SOURCE, SaeFile.Kind.NATIVE}
    assert sae.local_path == f"saes/{sae.id}"
    for file in sae.files.all():
        assert (settings.DATA_DIR / sae.local_path / file.path).stat().st_size == file.size


def test_a_saelens_sae_is_fetched_without_the_files_of_its_neighbours(hub: LocalHub) -> None:
    files = sample_files("saelens_v6_standard")
    neighbour = {name.replace("blocks.3", "blocks.4"): body for name, body in files.items()}
    hub.add_repo("someone/saes", {**files, **neighbour, "evil.py": b"import os"})
    sae = bring_in("someone/saes", "blocks.3.hook_resid_post")
    assert sae.status == Sae.Status.READY
    assert hub.log.bytes_sent("blocks.4") == 0
    assert hub.log.bytes_sent("evil.py") == 0


def test_a_checkpoint_that_does_not_say_enough_asks_and_goes_on_without_downloading_again(
    hub: LocalHub,
) -> None:
    hub.add_repo("local/mistudio", sample_files("mistudio_v1_jumprelu"))
    sae = bring_in("local/mistudio", "checkpoints/checkpoint_5000/layer_3_residual")
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "needs_facts")
    missing = {fact["name"] for fact in sae.missing_facts}
    assert "generation" in missing
    hub.log.clear()
    given = {"generation": 1, "normalize_activations": "constant_norm_rescale"}
    assert services.give_facts(sae, given)
    jobs.run(jobs.start_conversion(None, sae).id)
    sae.refresh_from_db()
    assert (sae.status, sae.error_message) == (Sae.Status.READY, "")
    assert hub.log.requests() == []
    assert sae.facts["generation"]["origin"] == "user"


def test_a_model_name_that_the_width_contradicts_stops_before_any_weight_is_fetched(
    hub: LocalHub,
) -> None:
    hub.add_repo("someone/saes", sample_files("saelens_v6_standard"))
    sae = bring_in("someone/saes", "blocks.3.hook_resid_post", model_name="gpt2")
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "dimension_mismatch")
    assert "Dimension mismatch" in sae.error_message
    assert hub.log.bytes_sent("sae_weights.safetensors") < 2000


def test_wrong_bytes_are_fetched_once_more_and_then_it_is_said(hub: LocalHub) -> None:
    hub.add_repo("google/gemma-scope-2b-pt-res", sample_files("gemma_scope_1_res"))
    corrupt = faults.corrupt(5000)
    hub.faults.add("params.npz", corrupt, where="cdn", times=1)
    sae = bring_in("google/gemma-scope-2b-pt-res", GEMMA)
    assert sae.status == Sae.Status.READY
    steering.delete_sae(None, sae, keep_files=False)
    hub.faults.add("params.npz", corrupt, where="cdn", times=None)
    sae = bring_in("google/gemma-scope-2b-pt-res", GEMMA)
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "hash_mismatch")
    assert not list((settings.DATA_DIR / "saes" / sae.id / "source").rglob("params.npz"))


def test_a_path_that_holds_no_sae_is_not_found(hub: LocalHub) -> None:
    hub.add_repo("someone/saes", sample_files("saelens_v6_standard"))
    assert bring_in("someone/saes", "blocks.7.hook_resid_post").error_code == "path_not_found"
    assert bring_in("someone/none", "x").error_code == "repository_not_found"


def test_retrying_a_finished_download_fetches_nothing_again(hub: LocalHub) -> None:
    hub.add_repo("google/gemma-scope-2b-pt-res", sample_files("gemma_scope_1_res"))
    sae = bring_in("google/gemma-scope-2b-pt-res", GEMMA)
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.ERROR)
    hub.log.clear()
    sae.refresh_from_db()
    jobs.run(steering.retry(None, sae).id)
    sae.refresh_from_db()
    assert sae.status == Sae.Status.READY
    assert hub.log.bytes_sent("params.npz") < 2000


def test_a_job_waits_in_numbers_for_room_that_another_has_set_aside(hub: LocalHub) -> None:
    hub.add_repo("google/gemma-scope-2b-pt-res", sample_files("gemma_scope_1_res"))
    greedy = Job.objects.create(
        kind=Job.Kind.DOWNLOAD,
        sae=Sae.objects.create(name="greedy", source=Sae.Source.HUGGINGFACE),
        state=Job.State.RUNNING,
        bytes_reserved=10**15,
    )
    sae = bring_in("google/gemma-scope-2b-pt-res", GEMMA)
    job = sae.jobs.get()
    assert (sae.status, job.waits_for, job.attempt) == (Sae.Status.PENDING, "disk", 0)
    assert "1,000,000,000,000,000" in job.message
    assert hub.log.bytes_sent("params.npz") < 2000
    moves.cancel([greedy.id])
    job.refresh_from_db()
    assert job.wait_until is None
    jobs.run(job.id)
    sae.refresh_from_db()
    assert sae.status == Sae.Status.READY


def test_deleting_during_a_download_leaves_neither_row_nor_file(hub: LocalHub) -> None:
    hub.add_repo("google/gemma-scope-2b-pt-res", sample_files("gemma_scope_1_res"))
    wanted = DownloadRequest(RepoRef("google/gemma-scope-2b-pt-res"), GEMMA)
    job = jobs.start_arrival(None, wanted, None)

    def delete_now(request: object) -> bool:
        sae = Sae.objects.filter(id=job.sae_id).first()
        if sae:
            steering.delete_sae(None, sae, keep_files=False)
        return False

    hub.faults.add(delete_now, faults.status(500), where="cdn")
    jobs.run(job.id)
    wait_for(lambda: not Sae.objects.filter(id=job.sae_id).exists())
    assert not (settings.DATA_DIR / "saes" / job.sae_id).exists()


def in_background(job: Job) -> threading.Thread:
    """A worker at it, in a thread with its own connection."""

    def work() -> None:
        try:
            jobs.run(job.id)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def is_body(request: Request) -> bool:
    """Weights, not one of the small reads of a header."""
    start, stop = request.asked or (0, 0)
    return (stop or 0) - (start or 0) > 5000


def wait_for_stage(job: Job, stage: str) -> None:
    wait_for(lambda: Job.objects.get(id=job.id).stage == stage)
    job.refresh_from_db()


def test_a_retry_right_after_a_cancel_waits_for_the_old_worker_to_let_go(hub: LocalHub) -> None:
    hub.add_repo("google/gemma-scope-2b-pt-res", sample_files("gemma_scope_1_res"))
    hub.faults.add(is_body, faults.stall(4000, 60), where="cdn")
    wanted = DownloadRequest(RepoRef("google/gemma-scope-2b-pt-res"), GEMMA)
    job = jobs.start_arrival(None, wanted, None)
    old = in_background(job)
    wait_for_stage(job, "downloading")
    moves.cancel([job.id])
    again = steering.retry(None, job.sae)
    new = in_background(again)
    old.join()
    new.join()
    again.refresh_from_db()
    assert (again.state, again.error_message) == (Job.State.DONE, "")


def test_deleting_while_the_hub_stalls_leaves_neither_row_nor_file(hub: LocalHub) -> None:
    hub.add_repo("google/gemma-scope-2b-pt-res", sample_files("gemma_scope_1_res"))
    hub.faults.add(is_body, faults.stall(4000, 60), where="cdn")
    wanted = DownloadRequest(RepoRef("google/gemma-scope-2b-pt-res"), GEMMA)
    job = jobs.start_arrival(None, wanted, None)
    worker = in_background(job)
    wait_for_stage(job, "downloading")
    steering.delete_sae(None, job.sae, keep_files=False)
    worker.join()
    assert not Sae.objects.filter(id=job.sae_id).exists()
    assert not (settings.DATA_DIR / "saes" / job.sae_id).exists()


def test_a_source_file_that_changed_on_disk_is_never_certified_as_the_one_that_was_checked(
    hub: LocalHub,
) -> None:
    hub.add_repo("someone/saes", sample_files("saelens_v6_standard"))
    sae = bring_in("someone/saes", "blocks.3.hook_resid_post")
    weights = next((settings.DATA_DIR / "saes" / sae.id).rglob("source/**/sae_weights.safetensors"))
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1
    weights.write_bytes(body)
    jobs.run(jobs.start_conversion(None, sae).id)
    sae.refresh_from_db()
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "data_missing")
    jobs.run(steering.retry(None, sae).id)
    sae.refresh_from_db()
    assert sae.status == Sae.Status.READY


def test_keeping_files_that_cannot_be_moved_deletes_nothing(hub: LocalHub) -> None:
    hub.add_repo("someone/saes", sample_files("saelens_v6_standard"))
    sae = bring_in("someone/saes", "blocks.3.hook_resid_post")
    (settings.DATA_DIR / "kept").write_text("a file where the folder should be")
    with pytest.raises(DataMissing):
        steering.delete_sae(None, sae, keep_files=True)
    assert Sae.objects.filter(id=sae.id).exists()
    assert (settings.DATA_DIR / "saes" / sae.id / "native").is_dir()


def test_pressing_download_twice_makes_one_sae(hub: LocalHub) -> None:
    repo = hub.add_repo("someone/saes", sample_files("saelens_v6_standard"))
    wanted = DownloadRequest(RepoRef("someone/saes", revision=repo.sha), "blocks.3.hook_resid_post")
    first = jobs.start_arrival(None, wanted, None)
    with pytest.raises(AlreadyHere) as there:
        jobs.start_arrival(None, wanted, None)
    assert there.value.sae_id == first.sae_id
