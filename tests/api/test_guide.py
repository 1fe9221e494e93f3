"""The guide's own requests, as printed, against a hub that holds what they name."""

import pytest

from saes.models import Job
from tests.api.conftest import ApiClient, work
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

REPO = "jbloom/GPT2-Small-SAEs"


@pytest.fixture(autouse=True)
def repo(hub: LocalHub) -> None:
    sample = sample_files("saelens_v6_standard")
    files = {
        name.replace("blocks.3.hook_resid_post", layer): body
        for layer in ("layer_0", "layer_6")
        for name, body in sample.items()
    }
    card = b"---\nbase_model: gpt2\n---\n# SAEs\n\nSAEs trained on GPT-2 Small\n"
    hub.add_repo(REPO, {**files, "README.md": card})


def test_previewing_a_repository(api: ApiClient) -> None:
    answer = api.post("/saes/hf/preview", {"repo_id": REPO})
    assert api.status == 200, answer
    assert answer["repo_id"] == REPO
    assert answer["repo_type"] == "model"
    assert answer["description"] == "SAEs trained on GPT-2 Small"
    assert answer["sae_paths"] == ["layer_0", "layer_6"]
    assert answer["total_size_bytes"] == sum(file["size_bytes"] for file in answer["files"])


def test_downloading_an_sae(api: ApiClient, started: list[Job]) -> None:
    body = {
        "repo_id": "jbloom/GPT2-Small-SAEs",
        "filepath": "layer_6",
        "name": "GPT2 Layer 6 SAE",
        "description": "SAE for layer 6 residual stream",
    }
    answer = api.post("/saes/download", body)
    assert api.status == 202, answer
    assert (answer["status"], answer["progress"], answer["name"]) == ("pending", 0, body["name"])
    assert answer["job_id"].startswith("job_")
    work(started)
    ready = api.get(f"/saes/{answer['id']}")
    assert (ready["status"], ready["progress"], ready["error_message"]) == ("ready", 100, None)
    assert ready["n_features"] and ready["d_model"] and ready["layer"] is not None
