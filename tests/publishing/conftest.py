"""Ready SAEs, a hub that takes commits, and tokens of several people."""

from collections.abc import Callable
from typing import Any

import pytest

from saes import jobs, publications, queueing, vault
from saes.drafting import Wish
from saes.models import HubToken, Job, Publication, Sae
from tests.hub import LocalHub
from tests.hub.answers import Answer, Request
from tests.hub.faults import Action
from tests.hub.repos import Repo
from tests.jobs.conftest import hub
from tests.jobs.made import brought_in, is_ready, made_sae

__all__ = ["hub"]
WRITER, READER = "hf_alice_writes", "hf_alice_reads"
REPO = "alice/published"


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)


@pytest.fixture
def saes(hub: LocalHub) -> list[Sae]:
    """Two, of 2 MB each."""
    hub.add_token(WRITER, "alice", "write")
    hub.add_token(READER, "alice", "read")
    for seed in (1, 2):
        hub.add_repo(f"someone/sae-{seed}", made_sae(seed))
    found = [brought_in(f"someone/sae-{seed}") for seed in (1, 2)]
    assert all(map(is_ready, found))
    return found


@pytest.fixture
def sae(saes: list[Sae]) -> Sae:
    return saes[0]


@pytest.fixture
def token(saes: list[Sae]) -> HubToken:
    """The server's own, that whoever has none uses."""
    return vault.keep(None, WRITER)


def wish(*saes: Sae, repo: str = REPO, folders: tuple[str, ...] = (), **more: Any) -> Wish:
    named = folders or tuple(f"layer_{number}" for number, _ in enumerate(saes))
    return publications.wish_for(saes, repo, named, **{"license": "mit", **more})


def started(*saes: Sae, token: str | None = None, confirmed: bool = False, **more: Any) -> Job:
    _, job = publications.publish(None, saes, wish(*saes, **more), token, confirmed=confirmed)
    assert job is not None, "all of it is there already"
    return job


def run(job: Job) -> Job:
    jobs.run(job.id)
    return Job.objects.select_related("publication").get(id=job.id)


def published(*saes: Sae, **more: Any) -> Publication:
    """Published and verified."""
    job = run(started(*saes, **more))
    assert (job.state, job.error_message) == (Job.State.DONE, ""), job.traceback
    assert job.publication is not None and job.publication.verified_at
    return job.publication


def held(repo: Repo) -> dict[str, bytes]:
    return {name: blob.read(0, blob.size) for name, blob in repo.head.files.items()}


def also(act: Callable[[], object], *, early: bool = False) -> Action:
    """Something that somebody else does just before or after what was asked for."""

    def change(request: Request, answer: Answer) -> Answer:
        act()
        return answer

    return Action(change, early=early)


def titles(repo: Repo) -> list[str]:
    return [commit.title for commit in repo.commits.values()]
