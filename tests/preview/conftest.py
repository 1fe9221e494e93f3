"""A hub to preview from, and no preview left over from another test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from saes import preview
from tests.hub import LocalHub


@pytest.fixture
def hub(settings: Settings, tmp_path: Path) -> Iterator[LocalHub]:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    preview._previews.clear()
    with LocalHub() as local:
        settings.HF_ENDPOINT = local.url
        for name in ("alice", "bob"):
            local.add_token(f"hf_{name}_1111", name)
        yield local
    preview._previews.clear()
