"""Commands run in this process: what they say on stdout and stderr, and how they end."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from pytest_django import Settings

from saes import accounts, arrivals, jobs, services
from saes.hub import RepoRef
from saes.models import Sae
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

GEMMA, GEMMA_WHERE = "google/gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_41"
SAELENS, SAELENS_WHERE = "someone/saes", "blocks.3.hook_resid_post"
MISTUDIO = "local/mistudio"
MISTUDIO_WHERE = "checkpoints/checkpoint_5000/layer_3_residual"


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(name: str, *words: object) -> Ran:
    out, err, code = StringIO(), StringIO(), 0
    try:
        call_command(name, *map(str, words), stdout=out, stderr=err)
    except CommandError as error:
        code = error.returncode
        err.write(f"{error}\n")
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    return Path(settings.DATA_DIR)


@pytest.fixture
def hub(settings: Settings, data_dir: Path) -> Iterator[LocalHub]:
    with LocalHub() as local:
        settings.HF_ENDPOINT = local.url
        fill(local)
        yield local


def fill(hub: LocalHub) -> None:
    hub.add_token("hf_alice_1111", "alice")
    hub.add_repo(GEMMA, sample_files("gemma_scope_1_res"))
    hub.add_repo(SAELENS, sample_files("saelens_v6_standard"))
    hub.add_repo(MISTUDIO, sample_files("mistudio_v1_jumprelu"))
    hub.add_repo(
        "alice/private", sample_files("saelens_v6_standard"), private=True, readers=["alice"]
    )


@pytest.fixture
def owner(transactional_db: None) -> User:
    return accounts.ensure_owner()


@pytest.fixture
def sae(owner: User, hub: LocalHub) -> Sae:
    """A ready one, brought in from the hub."""
    wanted = arrivals.DownloadRequest(RepoRef(SAELENS), SAELENS_WHERE)
    job = jobs.start_arrival(owner, wanted, None)
    jobs.run(job.id)
    return services.sae_of(job.sae_id)
