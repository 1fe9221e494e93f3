"""The admin, asked through Django's client by its owner and by staff of every role."""

from collections.abc import Callable

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.test import Client

from saes import queueing
from saes.models import Job, Sae
from tests.jobs.conftest import sample_files
from tests.views.conftest import client, data_dir, job, owner, put_file, sae, signed_in

__all__ = ["client", "data_dir", "job", "owner", "put_file", "sae", "signed_in"]
SAES = "/admin/saes/sae/"
JOBS = "/admin/saes/job/"


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Jobs that were handed to the queue."""
    queued: list[Job] = []
    monkeypatch.setattr(queueing, "enqueue", queued.extend)
    return queued


def staff(name: str, role: str = "") -> User:
    user = User.objects.create_user(name, is_staff=True)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


def many(count: int, user: User | None = None) -> list[Sae]:
    """SAEs with a job at work on each."""
    rows = [
        Sae(name=f"number {n}", source=Sae.Source.HUGGINGFACE, hf_repo_id="a/b", model_name="gpt2",
            created_by=user)
        for n in range(count)
    ]  # fmt: skip
    saes = Sae.objects.bulk_create(rows)
    Job.objects.bulk_create(
        Job(kind=Job.Kind.DOWNLOAD, sae=it, created_by=user, progress=40) for it in saes
    )
    return saes


def key(row: Model) -> str:
    """Its id as addresses of the admin write it: `_23` of `sae_23…` would be read as `#`."""
    return str(quote(row.pk))


def act(client: Client, action: str, *rows: Model, at: str = "", **more: str) -> str:
    """Do it to these rows through the list; what the page that follows says."""
    path = at or (JOBS if isinstance(rows[0], Job) else SAES)
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows], "index": "0"}
    answer = client.post(path, {**form, **more}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def put_sample() -> Callable[[Sae, str], None]:
    """Give an SAE the source files of one of the samples."""

    def put(sae: Sae, name: str) -> None:
        for path, content in sample_files(name).items():
            put_file(sae, f"source/{path}", content)

    return put
