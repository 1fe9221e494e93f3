"""Importing from folders of the server, by the guide's body and by more of it."""

from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from saes.models import Job, Sae
from tests.api.conftest import ApiClient, work
from tests.api.made import gpt2_sae, in_folder
from tests.fixtures import write_saelens

pytestmark = pytest.mark.django_db
FILE, FOLDER, SCAN = "/saes/import/file", "/saes/import/folder", "/saes/import/scan"
OUTSIDE = ["/etc/passwd", "/etc/nothing", "/root/.ssh/id_rsa", "~/x", "../x", "imports/../../x"]


@pytest.fixture
def root(settings: Settings, tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "saes"
    settings.IMPORT_ROOTS = {"saes": folder}
    for name, content in in_folder("my_sae", gpt2_sae(6)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def guides_body(root: Path) -> dict[str, Any]:
    """As the guide prints it, but for where this machine has its data."""
    return {
        "file_path": f"{root}/my_sae", "name": "Local SAE", "format": "saelens",
        "model_name": "gpt2", "layer": 6,
    }  # fmt: skip


def test_the_guides_body_brings_an_sae_in(
    api: ApiClient, root: Path, started: list[Job], hub: Any
) -> None:
    answer = api.post(FILE, guides_body(root))
    assert (api.status, answer["status"], answer["source"]) == (202, "pending", "local"), answer
    work(started)
    ready = api.get(f"/saes/{answer['id']}")
    assert (ready["status"], ready["name"], ready["layer"]) == ("ready", "Local SAE", 6)
    assert (ready["model_name"], ready["n_features"]) == ("gpt2", 32)
    assert (ready["import_root"], ready["import_path"], ready["placement"]) == (
        "saes", "my_sae", "copy",
    )  # fmt: skip
    assert (ready["hf_repo_id"], ready["training_id"]) == (None, None)
    assert api.get(f"/jobs/{answer['job_id']}")["kind"] == "import"
    again = api.post(FILE, guides_body(root))
    assert (api.status, again["id"]) == (200, answer["id"])


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"format": "mistudio"}, 422, "not_this_format"),
        ({"format": "nonsense"}, 422, "bad_body"),
        ({"model_name": "gpt2-xl"}, 422, "dimension_mismatch"),
        ({"file_path": "saes/nothing"}, 404, "path_not_found"),
        ({"placement": "move"}, 422, "bad_body"),
        ({"facts": {"architecture": "nonsense"}}, 400, "bad_fact"),
        ({"file_path": ""}, 422, "bad_body"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    api: ApiClient, root: Path, more: dict[str, Any], status: int, code: str, hub: Any
) -> None:
    answer = api.post(FILE, {**guides_body(root), **more})
    assert (api.status, answer["code"]) == (status, code), answer
    assert not Sae.objects.exists()


def test_a_folder_with_several_saes_lists_them(api: ApiClient, root: Path, hub: Any) -> None:
    write_saelens(root / "other")
    answer = api.post(FILE, {"file_path": str(root)})
    assert (api.status, answer["code"]) == (422, "several_saes")
    assert answer["found"] == ["my_sae", "other"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("route", [FILE, FOLDER, SCAN])
def test_s18_outside_of_the_roots_every_path_has_one_answer(
    api: ApiClient, root: Path, path: str, route: str, hub: Any
) -> None:
    if route == SCAN:
        answer = api.get(f"{SCAN}?path={path}")
    else:
        more = {"all": True} if route == FOLDER else {}
        answer = api.post(route, {"file_path": path, **more})
    assert (api.status, answer["code"]) == (400, "outside_roots")
    assert answer["detail"] == "This path is in none of the folders that may be imported from."


def test_a_scan_tells_every_sae_and_what_is_here(
    api: ApiClient, root: Path, started: list[Job], hub: Any
) -> None:
    write_saelens(root / "gemma" / "layer_3" / "width_16k" / "average_l0_9")
    (root / "gemma" / "secret").symlink_to("/etc/passwd")
    sae_id = api.post(FILE, guides_body(root))["id"]
    answer = api.get(f"{SCAN}?path=saes")
    assert (answer["root"], answer["path"]) == ("saes", ".")
    assert answer["left_out"] == ["gemma/secret"]
    told = {it["filepath"]: it for it in answer["saes"]}
    assert told["my_sae"]["sae_id"] == sae_id and not told["my_sae"]["changed"]
    other = told["gemma/layer_3/width_16k/average_l0_9"]
    assert (other["layer"], other["width"], other["sae_id"]) == (3, "16k", None)


def test_all_of_a_folder_is_one_batch(
    api: ApiClient, root: Path, started: list[Job], hub: Any
) -> None:
    for layer in range(3):
        write_saelens(root / "many" / f"layer_{layer}")
    answer = api.post(FOLDER, {"file_path": "saes/many", "all": True, "placement": "link"})
    assert api.status == 202, answer
    assert len(answer["sae_ids"]) == len(answer["jobs"]) == 3
    work(started)
    assert {sae.status for sae in Sae.objects.all()} == {"ready"}
    again = api.post(FOLDER, {"file_path": "saes/many", "filepaths": ["many/layer_1"]})
    assert (api.status, again["batch_id"], len(again["already_here"])) == (200, None, 1)
    refused = api.post(FOLDER, {"file_path": "saes/many", "filepaths": ["my_sae"]})
    assert (api.status, refused["code"]) == (404, "path_not_found")
    api.post(FOLDER, {"file_path": "saes/many"})
    assert api.status == 422
