"""Publishing through trouble: answers that are lost, kills, damage, and what is refused."""

from datetime import timedelta

import pytest
from django.utils import timezone

from saes import answers, events, jobs, moves, patience, publications, services, steering
from saes.errors import CannotPublish, Conflict, TargetMoved
from saes.models import Job, Publication, Sae, SaeFile
from saes.progress import Stage
from saes.recorder import JobReporter
from tests.apps import wait_for
from tests.hub import LocalHub, upload_faults
from tests.jobs.made import brought_in, made_sae
from tests.jobs.test_download import in_background
from tests.publishing.conftest import REPO, also, published, run, started, titles, wish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("token")]


def test_an_answer_that_is_lost_makes_no_second_commit(sae: Sae, hub: LocalHub) -> None:
    hub.faults.add("/commit/", upload_faults.lost_answer(), times=1)
    row = published(sae)
    assert titles(hub.repo(REPO))[1:] == ["Publish layer_0"]
    assert row.commit == hub.repo(REPO).sha


def test_a_lost_answer_of_a_pull_request_opens_no_second_one(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"README.md": b"# Mine\n"}, private=True)
    hub.faults.add("/commit/", upload_faults.lost_answer(), times=1)
    row = published(sae, as_pull_request=True)
    assert [it for it in hub.repo(REPO).refs if it.startswith("refs/pr/")] == ["refs/pr/1"]
    assert "/discussions/1" in row.pull_request


def test_a_job_that_was_killed_after_its_commit_finds_it(sae: Sae, hub: LocalHub) -> None:
    row = published(sae)
    parent = list(hub.repo(REPO).commits)[0]
    Publication.objects.filter(id=row.id).update(
        commit="", commit_url="", parent=parent, verified_at=None
    )
    again = steering.retry_job(None, _failed(row))
    assert run(again).state == Job.State.DONE
    row.refresh_from_db()
    assert row.commit == hub.repo(REPO).sha and row.verified_at
    assert titles(hub.repo(REPO))[1:] == ["Publish layer_0"]


def _failed(row: Publication) -> Job:
    job = row.jobs.get()
    Job.objects.filter(id=job.id).update(state=Job.State.FAILED)
    job.refresh_from_db()
    return job


def test_what_is_in_the_store_is_not_sent_again(sae: Sae, hub: LocalHub) -> None:
    hub.faults.add("/commit/", upload_faults.refused(503), times=None)
    job = started(sae)
    first = run(job)
    assert first.error_code == "hub_unreachable"
    hub.faults.clear()
    hub.log.clear()
    assert run(steering.retry_job(None, first)).state == Job.State.DONE
    assert not hub.log.requests(origin="cdn", method="PUT")


def test_a_store_that_fails_for_a_moment_is_asked_again(sae: Sae, hub: LocalHub) -> None:
    hub.faults.add("", upload_faults.refused(503), where="cdn", method="PUT", times=2)
    published(sae)


def test_a_damaged_export_is_made_anew(sae: Sae, hub: LocalHub) -> None:
    published(sae)
    path = services.library().export(sae.id, "saelens") / "sae_weights.safetensors"
    body = bytearray(path.read_bytes())
    body[-2] ^= 1
    path.write_bytes(body)
    published(sae, repo="alice/second")
    assert (
        hub.repo("alice/second").head.files["layer_0/sae_weights.safetensors"].sha256
        == hub.repo(REPO).head.files["layer_0/sae_weights.safetensors"].sha256
    )


@pytest.mark.parametrize("number", [0, 1])
def test_a_deleted_sae_is_not_published_in_part(
    saes: list[Sae], hub: LocalHub, number: int
) -> None:
    job = started(*saes)
    steering.delete_sae(None, saes[number], keep_files=False)
    jobs.run(job.id)
    assert hub.repos.get("model", REPO) is None
    told = answers.of_publication(Publication.objects.get())
    assert told["status"] == "error"
    assert told["error_code"] == ("cancelled" if number else "not_found")


def test_an_sae_that_is_deleted_while_it_is_sent_ends_the_publication(
    saes: list[Sae], hub: LocalHub
) -> None:
    job = started(*saes)
    gone = also(lambda: steering.delete_sae(None, saes[1], keep_files=False), early=True)
    hub.faults.add("/preupload/", gone)
    done = run(job)
    assert (done.state, done.error_code) == (Job.State.CANCELLED, "cancelled")
    assert not hub.log.requests("/commit/", method="POST")
    again = run(steering.retry_job(None, done))
    assert again.error_code == "not_found" and "was deleted" in again.error_message


def test_a_repository_that_was_made_for_nothing_is_told_of(sae: Sae, hub: LocalHub) -> None:
    job = started(sae, private=False, confirmed=True)
    hub.faults.add("/commit/", upload_faults.refused(403), times=None)
    failed = run(job)
    assert failed.publication is not None and failed.publication.created
    assert answers.of_publication(failed.publication)["repo_created"]
    assert hub.repo(REPO).private, "nobody sees what is not verified"
    told = events.upload_event(sae, failed)
    assert REPO not in str(told) and told["error_code"], "nor hears its name"


def test_bytes_that_go_by_are_no_silence(
    sae: Sae, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repo("someone/large", made_sae(3, d_in=512, d_sae=4096))
    said: list[tuple[str, float]] = []
    true = JobReporter._write_row

    def noted(reporter: JobReporter) -> bool:
        it = reporter.job
        # The system takes the last MBs before they are on their way.
        if it.stage == Stage.UPLOADING and 0 < it.bytes_done < 8_000_000:
            said.append((it.message, it.bytes_per_second))
        return true(reporter)

    monkeypatch.setattr(JobReporter, "_write_row", noted)
    monkeypatch.setattr(patience, "WORTH_A_WORD", 1.0)
    hub.faults.add("", upload_faults.slow_upload(4_000_000), method="PUT")  # of 17 MB
    published(brought_in("someone/large"))
    assert {message for message, _ in said} == {"Uploading"}
    assert any(speed for _, speed in said)


def test_a_cancelled_publishing_sends_nothing_and_can_be_retried(sae: Sae, hub: LocalHub) -> None:
    job = started(sae)
    assert moves.cancel([job.id])
    assert run(job).state == Job.State.CANCELLED
    assert hub.repos.get("model", REPO) is None
    job.refresh_from_db()
    assert run(steering.retry_job(None, job)).state == Job.State.DONE
    with pytest.raises(Conflict, match="verified"):
        steering.retry_job(None, job)


def test_two_names_that_differ_in_case_only_are_refused(saes: list[Sae]) -> None:
    with pytest.raises(CannotPublish, match="same folder"):
        started(*saes, folders=("layer", "Layer"))


@pytest.mark.parametrize(
    "folder", ["../x", "~/x", "a/../b", ".git/hooks", "a//b", "con", "a b", "x" * 301, "é", "."]
)
def test_a_folder_that_could_lead_elsewhere_is_refused(sae: Sae, folder: str) -> None:
    with pytest.raises(CannotPublish):
        started(sae, folders=(folder,))


def test_one_sae_named_twice_is_refused(sae: Sae) -> None:
    with pytest.raises(CannotPublish, match="twice"):
        started(sae, sae)


@pytest.mark.parametrize("folder", ["taken", "taken/layer_0"])
def test_a_file_where_the_folder_would_be_is_refused(sae: Sae, hub: LocalHub, folder: str) -> None:
    hub.add_repo(REPO, {"taken": b"a file"}, private=True)
    with pytest.raises(CannotPublish, match="`taken` is a file"):
        started(sae, folders=(folder,))


def test_a_rehearsal_that_is_stale_publishes_nothing(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"README.md": b"# Mine\n"}, private=True)
    told = publications.rehearse(None, [sae], wish(sae))
    hub.commit(REPO, {"README.md": b"# Another\n"})
    with pytest.raises(TargetMoved):
        publications.publish(None, [sae], wish(sae), digest=told.digest)
    assert not Job.objects.filter(kind=Job.Kind.PUBLISH).exists()


def test_the_bar_never_goes_back_and_tells_bytes(sae: Sae, hub: LocalHub) -> None:
    job = started(sae)
    done = run(job)
    assert done.progress == 100
    took = (done.ended_at or timezone.now()) - job.created_at
    assert took < timedelta(seconds=60)
    assert sae.files.filter(kind=SaeFile.Kind.EXPORT).exclude(certificate=None).count() == 2


def test_what_was_paused_and_cancelled_while_it_was_sent_is_retried(hub: LocalHub) -> None:
    hub.add_repo("someone/large", made_sae(3, d_in=512, d_sae=4096))
    job = started(brought_in("someone/large"))
    hub.faults.add("", upload_faults.slow_upload(1_000_000), method="PUT", times=None)
    worker = in_background(job)
    wait_for(lambda: Job.objects.filter(id=job.id, stage="uploading", bytes_done__gt=0).exists())
    moves.pause([job.id])
    worker.join()
    moves.cancel([job.id])
    hub.faults.clear()
    job.refresh_from_db()
    assert run(steering.retry_job(None, job)).state == Job.State.DONE
