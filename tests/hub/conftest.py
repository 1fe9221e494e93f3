"""A hub for every test, and a client that keeps to this machine and to a folder of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hollow, LocalHub

# The client reads these once, when it is imported.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("HF_HOME", tempfile.mkdtemp(prefix="hf-home-"))
os.environ.pop("HF_TOKEN", None)

WEIGHTS = Hollow(3_000_000, seed=7)
CONFIG = b'{"d_sae": 64}\n'


@pytest.fixture(autouse=True)
def plain_client() -> Iterator[None]:
    """The client as it comes: saes.hub, if it was imported before, gave it limits of ours."""
    from huggingface_hub.utils import _http

    ours = _http._GLOBAL_CLIENT_FACTORY
    _http.set_client_factory(_http.default_client_factory)
    yield
    _http.set_client_factory(ours)


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as local:
        local.add_token("hf_alice_1111", "alice")
        local.add_token("hf_bob_2222", "bob")
        yield local


@pytest.fixture
def sae(hub: LocalHub) -> str:
    files: dict[str, bytes | Hollow] = {
        "README.md": b"# An SAE\n",
        "layer_7/cfg.json": CONFIG,
        "layer_7/sae.safetensors": WEIGHTS,
    }
    hub.add_repo("alice/sae", files, card={"license": "mit", "library_name": "saelens"})
    return "alice/sae"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
