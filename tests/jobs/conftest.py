"""A library on a local hub: jobs run in this process, on real files, over real sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from tests.hub import LocalHub

SAMPLES = Path(__file__).parent.parent / "fixtures" / "samples"


def sample_files(name: str) -> dict[str, bytes]:
    root = SAMPLES / name / "repo"
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def hub(settings: Settings, tmp_path: Path) -> Iterator[LocalHub]:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    with LocalHub() as local:
        settings.HF_ENDPOINT = local.url
        local.add_token("hf_alice_1111", "alice")
        yield local
