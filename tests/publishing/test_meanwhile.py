"""What others change while something is published, on the Hub and here."""

from collections.abc import Callable

import pytest

from saes import committing, moves, services, steering
from saes.errors import Conflict
from saes.models import Job, Publication, Sae
from tests.hub import LocalHub, upload_faults
from tests.hub.answers import Answer, Request, as_json
from tests.hub.faults import Action
from tests.jobs.test_download import in_background
from tests.publishing.conftest import REPO, also, held, published, run, started

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("token")]
WEIGHTS = "layer_0/sae_weights.safetensors"


# --- on the Hub -----------------------------------------------------------------------------------


def test_a_repository_that_somebody_fills_under_the_name_meanwhile_gets_nothing(
    sae: Sae, hub: LocalHub
) -> None:
    job = started(sae)
    hub.add_repo(REPO, {"README.md": b"# Of somebody else\n"}, private=True)
    failed = run(job)
    assert failed.error_code == "target_moved" and "created by somebody" in failed.error_message
    assert held(hub.repo(REPO)).keys() == {"README.md"}


def test_an_empty_repository_under_the_name_is_as_good_as_one_of_ours(
    sae: Sae, hub: LocalHub
) -> None:
    job = started(sae)
    hub.add_repo(REPO, {}, private=True)
    assert run(job).state == Job.State.DONE


def test_that_fewer_may_see_it_now_is_noted(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"README.md": b"# x"})
    job = started(sae, confirmed=True)
    hub.repo(REPO).private = True
    assert run(job).state == Job.State.DONE
    assert hub.repo(REPO).private
    assert not Publication.objects.get().public


def test_a_file_that_the_repository_ignores_is_named(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {".gitignore": b"*.safetensors\n"}, private=True)
    failed = run(started(sae))
    assert failed.error_code == "cannot_publish"
    assert ".gitignore" in failed.error_message and WEIGHTS in failed.error_message
    assert not hub.log.requests(origin="cdn", method="PUT")


def test_a_pull_request_that_shows_late_is_not_opened_twice(
    sae: Sae, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "LOOKS", (0.0, 0.1, 0.1))
    hub.add_repo(REPO, {"README.md": b"# Mine\n"}, private=True)
    hub.faults.add("/commit/", upload_faults.lost_answer(), times=1)
    nothing = {"discussions": [], "count": 0, "start": 0, "numClosedDiscussions": 0}
    late = Action(lambda request, answer: as_json(nothing), early=True)
    hub.faults.add("/discussions", late, method="GET", times=2)
    published(sae, as_pull_request=True)
    assert [it for it in hub.repo(REPO).refs if it.startswith("refs/pr/")] == ["refs/pr/1"]


def test_a_cancel_does_not_wait_for_a_repository_to_be_made(sae: Sae, hub: LocalHub) -> None:
    job = started(sae)

    def cancelled(request: Request, answer: Answer) -> Answer:
        moves.cancel([job.id])
        return answer

    hub.faults.add("/api/repos/create", Action(cancelled, early=True), method="POST")
    hub.faults.add("/api/repos/create", upload_faults.stall_upload(0, 30.0), method="POST")
    worker = in_background(job)
    worker.join(10)
    assert not worker.is_alive()
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    assert not hub.log.requests("/commit/", method="POST")


# --- questions to the Hub -------------------------------------------------------------------------


def posts(hub: LocalHub, path: str) -> int:
    return len(hub.log.requests(path, method="POST"))


def test_the_hub_is_asked_once_for_many_files_and_not_again_for_those_it_has(
    saes: list[Sae], hub: LocalHub
) -> None:
    job = started(*saes)
    hub.faults.add("/commit/", upload_faults.refused(503), times=None)
    failed = run(job)
    assert posts(hub, "/preupload/") == posts(hub, "/commit/") == committing.ATTEMPTS
    assert len(hub.log.requests(origin="cdn", method="PUT")) == 2
    hub.faults.clear()
    hub.log.clear()
    assert run(steering.retry_job(None, failed)).state == Job.State.DONE
    assert (posts(hub, "/preupload/"), posts(hub, "/objects/batch")) == (1, 1)
    assert not hub.log.requests(origin="cdn", method="PUT")


def test_a_rate_limit_in_the_middle_sends_nothing_twice(saes: list[Sae], hub: LocalHub) -> None:
    job = started(*saes)
    limit = upload_faults.refused(429, {"Retry-After": "1"})
    hub.faults.add("/objects/batch", limit, method="POST", skip=2, times=1)
    assert run(job).state == Job.State.DONE
    assert len(hub.log.requests(origin="cdn", method="PUT")) == 2


# --- here -----------------------------------------------------------------------------------------


def when(hub: LocalHub, path: str, act: Callable[[], object]) -> None:
    """`act` is done just before the Hub answers this question, once."""
    hub.faults.add(path, also(act, early=True))


def test_an_sae_is_not_edited_while_it_is_published(saes: list[Sae], hub: LocalHub) -> None:
    job = started(*saes)
    for sae in saes:
        with pytest.raises(Conflict):
            services.give_facts(sae, {"hook_name": "blocks.5.hook_resid_pre"})
        with pytest.raises(Conflict):
            steering.convert_again(None, sae)
    assert run(job).state == Job.State.DONE
    assert not services.give_facts(saes[1], {"hook_name": "blocks.5.hook_resid_pre"})


def test_an_sae_that_was_renamed_since_it_was_confirmed_is_not_published(
    saes: list[Sae], hub: LocalHub
) -> None:
    job = started(*saes)
    services.edit(saes[1], name="Another name")
    failed = run(job)
    assert failed.error_code == "target_moved" and "changed since" in failed.error_message
    assert hub.repos.get("model", REPO) is None


def test_an_sae_that_was_edited_is_not_published_by_a_retry(sae: Sae, hub: LocalHub) -> None:
    job = started(sae)
    moves.cancel([job.id])
    job.refresh_from_db()
    services.give_facts(sae, {"hook_name": "blocks.5.hook_resid_pre"})
    failed = run(steering.retry_job(None, job))
    assert failed.error_code == "target_moved"
    assert hub.repos.get("model", REPO) is None


def test_what_is_removed_here_after_the_commit_is_no_matter_for_reading_it_back(
    sae: Sae, hub: LocalHub
) -> None:
    hub.faults.add("/commit/", also(lambda: services.drop_exports(sae)))
    assert published(sae).verified_at


def test_a_form_that_disappears_from_the_disk_is_made_anew(sae: Sae, hub: LocalHub) -> None:
    weights = services.library().export(sae.id, "saelens") / "sae_weights.safetensors"
    when(hub, "/preupload/", weights.unlink)
    published(sae)
    assert weights.is_file()
    assert held(hub.repo(REPO))[WEIGHTS] == weights.read_bytes()


def test_a_form_that_was_dropped_at_the_last_moment_is_told_and_a_retry_makes_it(
    sae: Sae, hub: LocalHub
) -> None:
    job = started(sae)
    when(hub, "/api/whoami-v2", lambda: services.drop_exports(sae))
    failed = run(job)
    assert failed.error_code == "target_moved"
    assert run(steering.retry_job(None, failed)).state == Job.State.DONE
