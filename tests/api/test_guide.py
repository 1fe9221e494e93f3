"""The guide's own requests, as printed, against a hub that holds what they name."""

import json
import re
from typing import Any

import pytest

from saes.models import Job
from tests.api.conftest import ApiClient, work
from tests.api.made import gpt2_sae, in_folder
from tests.hub import LocalHub

REPO = "jbloom/GPT2-Small-SAEs"
PREVIEW = """
{
  "repo_id": "jbloom/GPT2-Small-SAEs",
  "access_token": "hf_xxxxx"  // Optional, for private repos
}
"""
DOWNLOAD = """
{
  "repo_id": "jbloom/GPT2-Small-SAEs",
  "filepath": "layer_6",
  "name": "GPT2 Layer 6 SAE",
  "description": "SAE for layer 6 residual stream",
  "model_name": "gpt2"
}
"""
CARD = b"---\nbase_model: gpt2\n---\n# SAEs\n\nSAEs trained on GPT-2 Small\n"


def printed(example: str) -> Any:
    """The guide prints remarks, which JSON has not."""
    return json.loads(re.sub(r"\s+//.*", "", example))


@pytest.fixture(autouse=True)
def repo(hub: LocalHub) -> None:
    hub.add_token("hf_xxxxx", "reader")
    layers = in_folder("layer_0", gpt2_sae(0)) | in_folder("layer_6", gpt2_sae(6))
    hub.add_repo(REPO, {**layers, "README.md": CARD})


def test_previewing_a_repository(api: ApiClient) -> None:
    answer = api.post("/saes/hf/preview", printed(PREVIEW))
    assert api.status == 200, answer
    files = answer.pop("files")
    sae_files = answer.pop("sae_files")
    size = answer.pop("total_size_bytes")
    assert answer.pop("revision") and answer.pop("warning") is None
    assert answer == {
        "repo_id": REPO,
        "repo_type": "model",
        "description": "SAEs trained on GPT-2 Small",
        "sae_paths": ["layer_0", "layer_6"],
        "model_name": "gpt2",
    }
    assert size == sum(file["size_bytes"] for file in files)
    assert len(files) == len(sae_files) + 1  # README.md
    assert {
        "filepath": "layer_6/cfg.json",
        "size_bytes": len(gpt2_sae(6)["cfg.json"]),
        "is_sae": True,
        "layer": 6,
        "n_features": 32,
    } in sae_files


def test_previewing_a_repository_without_a_token(api: ApiClient) -> None:
    assert api.post("/saes/hf/preview", {"repo_id": REPO})["repo_id"] == REPO


def test_downloading_an_sae(api: ApiClient, started: list[Job]) -> None:
    answer = api.post("/saes/download", printed(DOWNLOAD))
    assert api.status == 202, answer
    assert (answer["status"], answer["progress"]) == ("pending", 0)
    assert answer["id"].startswith("sae_") and answer["job_id"].startswith("job_")
    asked = printed(DOWNLOAD)
    assert {name: answer[name] for name in ("name", "description", "model_name")} == {
        name: asked[name] for name in ("name", "description", "model_name")
    }
    assert (answer["hf_repo_id"], answer["hf_filepath"]) == (REPO, "layer_6")
    work(started)
    ready = api.get(f"/saes/{answer['id']}")
    assert (ready["status"], ready["progress"], ready["error_message"]) == ("ready", 100, None)
    assert (ready["n_features"], ready["d_model"], ready["layer"]) == (32, 768, 6)
    assert (ready["model_name"], ready["architecture"]) == ("gpt2", "standard")
    assert api.get(f"/jobs/{answer['job_id']}")["state"] == "done"


def test_a_repository_that_is_not_there(api: ApiClient) -> None:
    answer = api.post("/saes/hf/preview", {"repo_id": "jbloom/nothing"})
    assert (api.status, answer["code"]) == (404, "repository_not_found")
    assert answer["detail"].startswith("Repository not found")
    assert "Check repo_id" in answer["solution"] and "access_token" in answer["solution"]


@pytest.mark.parametrize(
    "path",
    [
        "/saes",
        "/saes/hf/preview",
        "/saes/download",
        "/saes/upload",
        "/saes/import/file",
        "/saes/import/training",
    ],
)
def test_the_guides_addresses_are_documented(api: ApiClient, path: str) -> None:
    assert f"/api/v1{path}" in api.get("/openapi.json")["paths"]
