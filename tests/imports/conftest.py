"""An empty library, an import root, and a directory of training runs."""

from pathlib import Path

import pytest
from pytest_django import Settings

from saes import queueing


@pytest.fixture(autouse=True)
def library(settings: Settings, tmp_path: Path, db: None) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    settings.IMPORT_ROOTS = {"imports": tmp_path / "imports", "disk": tmp_path / "disk"}
    settings.TRAININGS_DIR = tmp_path / "trainings"
    for folder in (*settings.IMPORT_ROOTS.values(), settings.TRAININGS_DIR):
        folder.mkdir()
    return Path(settings.DATA_DIR)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "imports"


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs wait until the test runs them."""
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)
