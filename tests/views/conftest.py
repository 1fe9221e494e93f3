"""The pages, asked through Django's own client: a signed-in owner and a data directory."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from saes import accounts, queueing, services, vault
from saes.certificate import Certificate
from saes.models import HubToken, Job, Sae, SaeFile
from saes.storage import Written, sha256_of
from tests.hub import LocalHub
from tests.jobs.made import brought_in, is_ready, made_sae

BACKEND = "django.contrib.auth.backends.ModelBackend"
CERTIFICATE = Certificate(
    passed=True, seed=1, n_vectors=200, fired_fraction=0.1, mean_l0=40.0, max_abs_acts=1e-9,
    max_rel_acts=1e-9, max_abs_recon=0.0, max_rel_recon=0.0, active_sets_identical=True,
).to_json()  # fmt: skip


@pytest.fixture(autouse=True)
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir(exist_ok=True)
    return Path(settings.DATA_DIR)


@pytest.fixture
def hub(settings: Settings) -> Iterator[LocalHub]:
    with LocalHub() as local:
        settings.HF_ENDPOINT = local.url
        local.add_token("hf_alice_1111", "alice")
        yield local


@pytest.fixture
def owner(db: None) -> User:
    return accounts.ensure_owner()


@pytest.fixture
def client(owner: User) -> Client:
    """Somebody who is signed in."""
    return signed_in(owner)


def signed_in(user: User, **more: bool) -> Client:
    client = Client(**more)  # type: ignore[arg-type]
    client.force_login(user, backend=BACKEND)
    return client


@pytest.fixture
def sae(owner: User) -> Sae:
    """A ready one, with two files on disk."""
    made = Sae.objects.create(
        name="residual of layer 3",
        source=Sae.Source.HUGGINGFACE,
        hf_repo_id="someone/saes",
        hf_filepath="blocks.3.hook_resid_post",
        hf_commit="a" * 40,
        status=Sae.Status.READY,
        format="saelens",
        layer=3,
        d_in=768,
        d_sae=24576,
        certificate=CERTIFICATE,
        facts={"d_in": {"value": 768, "origin": "file"}},
        created_by=owner,
    )
    for name in ("source/cfg.json", "native/metadata.json"):
        put_file(made, name, b'{"facts": {}}')
    services.finish(made)
    return made


def put_file(sae: Sae, name: str, content: bytes) -> Path:
    path = services.library().home(sae.id) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    kind = SaeFile.Kind.SOURCE if name.startswith("source/") else SaeFile.Kind.NATIVE
    services.record_file(sae, kind, Written(path, len(content), sha256_of(path)))
    return path


@pytest.fixture
def job(sae: Sae) -> Job:
    """A running one of `sae`."""
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.DOWNLOADING)
    queued = Job.objects.create(kind=Job.Kind.DOWNLOAD, sae=sae)
    running = Job.objects.claim(queued.id, "elsewhere 1 1")
    assert running is not None
    return running


# --- publishing -----------------------------------------------------------------------------------

WRITER, READER, TARGET = "hf_alice_writes", "hf_alice_reads", "alice/published"


@pytest.fixture
def whole_saes(hub: LocalHub, owner: User, monkeypatch: pytest.MonkeyPatch) -> list[Sae]:
    """Two that came from the hub, and tokens of alice: one writes, one reads."""
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)
    hub.add_token(WRITER, "alice", "write")
    hub.add_token(READER, "alice", "read")
    for seed in (1, 2):
        hub.add_repo(f"someone/sae-{seed}", made_sae(seed, 16, 32))
    found = [brought_in(f"someone/sae-{seed}") for seed in (1, 2)]
    assert all(map(is_ready, found))
    return found


@pytest.fixture
def whole_sae(whole_saes: list[Sae]) -> Sae:
    return whole_saes[0]


@pytest.fixture
def writer(owner: User) -> HubToken:
    """The owner's stored token."""
    return vault.keep(owner, WRITER)


def asked(*saes: Sae, token: HubToken | None = None, **more: Any) -> dict[str, Any]:
    """What the form sends: with a stored token, else with one for this time."""
    return {
        "sae": [it.id for it in saes], "repo": TARGET, "license": "mit", "create": "on",
        "token": str(token.pk) if token else "once",
        **{f"folder-{it.id}": f"layer_{number}" for number, it in enumerate(saes)}, **more,
    }  # fmt: skip


def sealed(answer: Any) -> str:
    """What is confirmed of a rehearsal."""
    found = re.search(r'name="rehearsed" value="([^"]+)"', answer.content.decode())
    assert found, "nothing to confirm"
    return found[1]


def published(client: Client, *saes: Sae, token: HubToken, typed: str = "", **more: Any) -> Job:
    """The job that was started by the pages."""
    told = client.post("/publish/rehearse/", asked(*saes, token=token, **more))
    answer = client.post("/publish/start/", {"rehearsed": sealed(told), "typed": typed})
    assert answer.status_code == 302, answer.content
    return Job.objects.get(publication=answer["Location"].split("/")[2])
