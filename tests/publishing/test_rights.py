"""Who may publish where, and who may see it."""

import pytest

from saes import moves, publications, steering, vault
from saes.errors import AccessDenied, CannotPublish, RepositoryNotFound, WrongVisibility
from saes.models import HubToken, Job, Publication, Sae
from tests.hub import LocalHub
from tests.publishing.conftest import READER, REPO, WRITER, published, run, started, wish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("token")]


# --- who may see it -------------------------------------------------------------------------------


def test_a_public_repository_needs_a_confirmation(sae: Sae, hub: LocalHub) -> None:
    with pytest.raises(WrongVisibility):
        started(sae, private=False)
    hub.add_repo(REPO, {})
    with pytest.raises(WrongVisibility):
        started(sae)
    with pytest.raises(WrongVisibility, match="public"):
        started(sae, private=True, confirmed=True)
    assert not Publication.objects.exists()
    published(sae, confirmed=True)


def test_a_private_repository_becomes_public_where_that_was_confirmed(
    sae: Sae, hub: LocalHub
) -> None:
    hub.add_repo(REPO, {}, private=True)
    told = publications.rehearse(None, [sae], wish(sae, private=False))
    assert told.makes_public and told.public
    published(sae, private=False, confirmed=True)
    assert not hub.repo(REPO).private


def test_a_repository_that_became_public_meanwhile_gets_nothing(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {}, private=True)
    job = started(sae)
    hub.repo(REPO).private = False
    assert run(job).error_code == "wrong_visibility"
    assert "layer_0/cfg.json" not in hub.repo(REPO).head.files


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_that_only_reads_is_refused_in_words(sae: Sae) -> None:
    with pytest.raises(AccessDenied, match="read"):
        started(sae, token=READER)


def test_a_repository_that_is_to_exist_and_does_not_is_not_found(sae: Sae) -> None:
    with pytest.raises(RepositoryNotFound, match="alice/published does not exist"):
        started(sae, create=False)


def test_a_retry_never_goes_with_a_token_that_was_not_confirmed(sae: Sae, hub: LocalHub) -> None:
    job = started(sae, token=WRITER)  # beside it is another one in the vault, of the same account
    moves.cancel([job.id])
    job.refresh_from_db()
    with pytest.raises(CannotPublish, match="token that this was confirmed with is gone"):
        steering.retry_job(None, job)
    again = steering.retry_job(None, job, vault.keep_for_one_job(None, WRITER))
    assert run(again).state == Job.State.DONE


def test_a_rehearsal_tells_what_the_token_may(sae: Sae, token: HubToken) -> None:
    told = publications.rehearse(None, [sae], wish(sae))
    assert told.token_rights == "Reads, and writes to repositories of alice."
    assert told.to_json()["token_rights"] == told.token_rights


def test_another_organisation_is_refused_in_words(sae: Sae) -> None:
    with pytest.raises(AccessDenied, match="stranger"):
        started(sae, repo="stranger/published")


def test_a_fine_grained_token_without_access_is_refused_in_words(sae: Sae, hub: LocalHub) -> None:
    hub.add_token("hf_fine", "alice", "fineGrained", writes=["alice/other"])
    with pytest.raises(AccessDenied, match="may not create repositories of alice"):
        started(sae, token="hf_fine")
    hub.add_repo("alice/other", {}, private=True)
    assert run(started(sae, repo="alice/other", token="hf_fine")).state == Job.State.DONE


def test_a_token_for_one_job_is_wiped_when_that_ends(sae: Sae) -> None:
    job = started(sae, token=WRITER)
    assert HubToken.objects.filter(for_one_job=True).count() == 1
    assert run(job).state == Job.State.DONE
    assert not HubToken.objects.filter(for_one_job=True).exists()


def test_a_retry_with_the_token_of_somebody_else_publishes_nothing(sae: Sae, hub: LocalHub) -> None:
    hub.add_token("hf_bob", "bob", "write", orgs=["alice"])
    job = started(sae)
    moves.cancel([job.id])
    job.refresh_from_db()
    again = steering.retry_job(None, job, vault.keep_for_one_job(None, "hf_bob"))
    failed = run(again)
    assert failed.error_code == "cannot_publish" and "bob" in failed.error_message
