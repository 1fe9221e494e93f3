"""HF_HUB_OFFLINE: API, pages, commands and jobs say so at once, and nobody is asked."""

import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from django.contrib.auth.models import User

from saes import jobs
from saes.models import Job, Sae
from tests.api.conftest import ApiClient, work
from tests.apps import clean_environment, manage
from tests.hub import LocalHub
from tests.jobs.made import made_sae, wanted
from tests.views.conftest import signed_in

REPO = "alice/sae"


@pytest.fixture(autouse=True)
def offline(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.add_repo(REPO, made_sae())
    yield
    assert hub.log.requests() == []


@pytest.mark.parametrize("path", ["/saes/hf/preview", "/saes/download"])
def test_the_api_answers_503_with_its_own_code(api: ApiClient, path: str) -> None:
    answer = api.post(path, {"repo_id": REPO})
    assert (api.status, answer["code"]) == (503, "offline")
    assert "HF_HUB_OFFLINE" in answer["detail"] + answer["solution"]
    assert not Sae.objects.exists()


def test_the_page_of_a_repository_says_it(owner: User) -> None:
    page = signed_in(owner).get(f"/hub/{REPO}/").content.decode()
    assert "HF_HUB_OFFLINE" in page


def test_a_job_that_was_queued_before_ends_with_it(started: list[Job], owner: User) -> None:
    job = jobs.start_arrival(owner, wanted(REPO), None)
    begun = time.monotonic()
    work(started)
    assert time.monotonic() - begun < 60, "nothing is asked again and again"
    job.refresh_from_db()
    assert (job.state, job.error_code, job.attempt) == (Job.State.FAILED, "offline", 1)


def test_a_command_ends_with_it(hub: LocalHub, tmp_path: Path) -> None:
    env = clean_environment(tmp_path / "there", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    (tmp_path / "there").mkdir()
    done = manage("sae_preview", REPO, env=env)
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE" in done.stderr
