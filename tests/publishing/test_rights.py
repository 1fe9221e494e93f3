"""Who may publish where, and who may see it."""

import pytest

from saes import moves, publications, steering, vault
from saes.errors import CannotPublish, WrongVisibility
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
    with pytest.raises(CannotPublish, match="read"):
        publications.publish(None, [sae], wish(sae), READER)


def test_a_rehearsal_tells_what_the_token_may(sae: Sae, token: HubToken) -> None:
    told = publications.rehearse(None, [sae], wish(sae))
    assert told.token_rights == "Reads, and writes to repositories of alice."
    assert told.to_json()["token_rights"] == told.token_rights


def test_another_organisation_is_refused_in_words(sae: Sae) -> None:
    with pytest.raises(CannotPublish, match="stranger"):
        started(sae, repo="stranger/published")


def test_a_fine_grained_token_without_access_is_refused_in_words(sae: Sae, hub: LocalHub) -> None:
    hub.add_token("hf_fine", "alice", "fineGrained", writes=["alice/other"])
    with pytest.raises(CannotPublish, match="may not create repositories of alice"):
        publications.publish(None, [sae], wish(sae), "hf_fine")
    hub.add_repo("alice/other", {}, private=True)
    _, job = publications.publish(None, [sae], wish(sae, repo="alice/other"), "hf_fine")
    assert run(job).state == Job.State.DONE


def test_a_token_for_one_job_is_wiped_when_that_ends(sae: Sae) -> None:
    _, job = publications.publish(None, [sae], wish(sae), WRITER)
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
