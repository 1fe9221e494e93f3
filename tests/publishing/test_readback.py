"""What is read back after a commit: whatever is not as it was sent is not called published."""

import json

import pytest

from saes import steering
from saes.models import Job, Sae
from tests.hub import LocalHub, faults
from tests.hub.answers import Answer, Request, as_json
from tests.hub.faults import Action
from tests.publishing.conftest import REPO, also, held, published, run, started

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("token")]
CONFIG, WEIGHTS = "layer_0/cfg.json", "layer_0/sae_weights.safetensors"


def told_otherwise(name: str) -> Action:
    """The commit's tree names another hash for a file."""

    def change(request: Request, answer: Answer) -> Answer:
        rows = json.loads(b"".join(answer.body))  # type: ignore[arg-type]
        for row in rows:
            if row["path"] == name:
                row["oid"] = row["oid"][::-1]
                row |= {"lfs": {**row["lfs"], "oid": "0" * 64}} if "lfs" in row else {}
        return as_json(rows)

    def is_listed(request: Request, answer: Answer) -> bool:
        return answer.status == 200

    return Action(change, is_listed)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, "README.md"])
def test_a_commit_that_names_another_hash_is_not_published(
    sae: Sae, hub: LocalHub, name: str
) -> None:
    hub.faults.add("/tree/", told_otherwise(name), skip=1, times=None)  # the first is of its start
    failed = run(started(sae))
    assert failed.error_code == "not_as_sent" and f"`{name}`" in failed.error_message
    assert failed.publication is not None and failed.publication.verified_at is None
    assert failed.publication.commit == hub.repo(REPO).sha
    hub.faults.clear()
    assert run(steering.retry_job(None, failed)).state == Job.State.DONE
    assert len(hub.repo(REPO).commits) == 2


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_bytes_that_come_back_other_than_they_were_sent_are_not_published(
    sae: Sae, hub: LocalHub, name: str
) -> None:
    hub.add_repo(REPO, {}, private=True)
    job = started(sae, private=False, confirmed=True)
    hub.faults.add(name, faults.corrupt(12), times=None)
    failed = run(job)
    assert failed.error_code == "not_as_sent" and f"`{name}`" in failed.error_message
    assert hub.repo(REPO).private, "what was not verified is not shown to everybody"


def test_what_others_commit_after_ours_is_no_matter(sae: Sae, hub: LocalHub) -> None:
    hub.faults.add("/commit/", also(lambda: hub.commit(REPO, {CONFIG: b"{}"})))
    row = published(sae)
    assert row.commit != hub.repo(REPO).sha


def test_a_gated_repository_of_ours_is_published_to_and_read_back(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"README.md": b"# Gated\n"}, gated="manual")
    published(sae, confirmed=True)
    assert CONFIG in held(hub.repo(REPO))
