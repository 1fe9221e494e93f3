"""A library of small SAEs whose files lie on a real disk, and a full listing of all of it."""

import os
import secrets
import time
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from saes import accounts, services
from saes.models import Sae, SaeFile
from saes.storage import Written, sha256_of
from tests.views.people import everything_kept

LARGE = 2**20 + 5  # bytes that are worth sharing


@pytest.fixture(autouse=True)
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    return Path(settings.DATA_DIR)


@pytest.fixture
def owner(db: None) -> User:
    return accounts.ensure_owner()


@pytest.fixture
def sae(owner: User) -> Sae:
    return made("residual")


def made(name: str, weights: bytes | None = None) -> Sae:
    """A ready one, with a small and a large file of its own, as the pipeline leaves it."""
    row = Sae.objects.create(
        name=name, source=Sae.Source.HUGGINGFACE, hf_repo_id="someone/saes", hf_filepath=name,
        status=Sae.Status.READY, downloaded_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    services.library().open_home(row.id)
    put(row, "source/cfg.json", secrets.token_bytes(20))
    put(row, "native/checkpoint.safetensors", weights or secrets.token_bytes(LARGE))
    services.finish(row)
    return services.sae_of(row.id)


def put(sae: Sae, name: str, content: bytes) -> Path:
    path = services.library().home(sae.id) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    kind = SaeFile.Kind(name.split("/")[0].removesuffix("s"))
    services.record_file(sae, kind, Written(path, len(content), sha256_of(path)))
    return path


def aged(path: Path, seconds: float = 3600) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)
    return path


def everything(data_dir: Path) -> dict[str, Any]:
    """All rows, and of all files what a change of them would change."""
    found = {path: path.lstat() for path in data_dir.rglob("*")}
    tree = {
        str(path): (it.st_mode, it.st_ino, it.st_nlink, it.st_size, it.st_mtime_ns)
        for path, it in found.items()
        if "sqlite3" not in path.name
    }
    return everything_kept() | {"tree": tree}
