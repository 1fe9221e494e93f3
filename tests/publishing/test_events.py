"""What is told of a publishing: the guide's statuses in their order, and no private name."""

from typing import Any

import pytest
from django.db import connection

from saes import events, moves
from saes.models import HubToken, Job, Sae
from tests.hub import LocalHub
from tests.publishing.conftest import REPO, also, run, started

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def with_token(token: HubToken) -> None:
    """Every test here has a token that may write."""


def told(sae: Sae) -> dict[str, Any]:
    return events.present([sae.id])[sae.id]["upload"]


def test_nothing_was_uploaded_yet(sae: Sae) -> None:
    assert told(sae)["status"] is None and told(sae)["message"] == "Nothing was uploaded"


def test_the_statuses_come_in_the_guides_order_for_every_sae_of_it(
    saes: list[Sae], hub: LocalHub
) -> None:
    heard: list[tuple[str, float]] = []

    def listen() -> None:
        state = told(saes[1])
        heard.append((state["status"], state["progress"]))
        connection.close()

    for where in ("/preupload/", "/commit/", f"/{REPO}/resolve/"):
        hub.faults.add(where, also(listen, early=True), times=None)
    job = started(*saes)
    heard.append((told(saes[1])["status"], 0.0))
    done = run(job)
    assert (done.state, done.error_message) == (Job.State.DONE, "")
    listen()
    statuses = list(dict.fromkeys(status for status, _ in heard))
    assert statuses == ["pending", "uploading", "verifying", "ready"]
    percents = [percent for _, percent in heard]
    assert percents == sorted(percents) and percents[-1] == 100
    assert all(50 <= percent <= 95 for status, percent in heard if status == "uploading")
    assert all(95 <= percent < 100 for status, percent in heard if status == "verifying")


def test_an_sae_at_work_is_among_those_at_work(saes: list[Sae]) -> None:
    job = started(*saes)
    assert set(events.at_work()) >= {sae.id for sae in saes}
    moves.cancel([job.id])
    assert events.at_work() == []
    assert (told(saes[1])["status"], told(saes[1])["error_code"]) == ("error", "cancelled")


def test_the_commit_of_a_private_repository_is_told_to_nobody(sae: Sae, hub: LocalHub) -> None:
    run(started(sae))
    assert told(sae)["status"] == "ready" and told(sae)["repo_url"] is None
    assert REPO not in str(told(sae))
    hub.repo(REPO).private = False
    run(started(sae, folders=("layer_9",), confirmed=True))
    assert told(sae)["commit_hash"] == hub.repo(REPO).sha and REPO in told(sae)["repo_url"]


def test_while_it_is_converted_it_says_so(sae: Sae) -> None:
    job = started(sae)
    Job.objects.filter(id=job.id).update(state=Job.State.RUNNING, stage="converting", progress=20)
    assert (told(sae)["status"], told(sae)["stage"]) == ("converting", "convert")
    assert told(sae)["message"] == "Converting: 20.0%"
