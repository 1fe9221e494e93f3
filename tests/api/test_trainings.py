"""Routes of training runs: the guide's import, and which SAEs exactly."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from saes import picking, trainings
from saes.models import Batch, Job, Sae, Training
from saes.picking import Choice, Pair
from tests.api.conftest import ApiClient, client_of, work
from tests.imports.test_picking import run
from tests.imports.test_trainings import GENERATIONS
from tests.jobs.conftest import SAMPLES

__all__ = ["run"]
IMPORT = "/saes/import/training"
BEHAVIOUR = GENERATIONS["mistudio_v2_topk"]


@pytest.fixture(autouse=True)
def folders(settings: Settings, tmp_path: Path) -> None:
    settings.TRAININGS_DIR = tmp_path / "trainings"
    settings.TRAININGS_DIR.mkdir()


def held(told: Any) -> list[tuple[Any, ...]]:
    return [(it["layer"], it["hook_type"], it["status"]) for it in told]


def test_runs_are_listed_and_told_without_their_folder(
    api: ApiClient, run: Training, settings: Settings
) -> None:
    Training.objects.create(name="another", status="running", directory="/x", model_name="gpt2")
    told = api.get("/trainings?limit=1")
    assert told["pagination"] == {"skip": 0, "limit": 1, "total": 2, "has_more": True}
    assert told["data"][0]["name"] == "another"
    assert [it["id"] for it in api.get("/trainings?status=completed")["data"]] == [run.id]
    assert [it["name"] for it in api.get("/trainings?search=GPT")["data"]] == ["another"]
    one = api.get(f"/trainings/{run.id}")
    assert (one["id"], one["status"], one["imported"]) == (run.id, "completed", 0)
    assert str(settings.TRAININGS_DIR) not in api.last.content.decode()
    assert api.get("/trainings/train_nobody")["code"] == "not_found" and api.status == 404


def test_what_a_run_holds_is_told_step_by_step(api: ApiClient, run: Training) -> None:
    picking.bring_in(None, run, Choice(pairs=[Pair(7, "residual")]))
    told = api.get(f"/saes/training/{run.id}/available")
    assert (told["training_id"], told["step"], told["steps"]) == (run.id, 5000, [5000, 900, 0])
    assert held(told["data"]) == [
        (3, "mlp", "available"), (3, "residual", "available"), (7, "residual", "imported"),
    ]  # fmt: skip
    first, _, last = told["data"]
    assert first["path"] == "checkpoints/checkpoint_5000/layer_3_mlp"
    assert (first["step"], first["size_bytes"], first["format"]) == (5000, 8960, "mistudio")
    assert (first["form"], first["sae_id"]) == ("checkpoints", None)
    assert last["sae_id"] == Sae.objects.get().id
    assert {it["form"] for it in told["exports"]} == {"community_format"}
    told = api.get(f"/saes/training/{run.id}/available?step=0")
    assert (told["step"], held(told["data"])) == (0, [(3, "residual", "available")])
    assert api.get(f"/saes/training/{run.id}/available?step=7")["code"] == "path_not_found"


def test_the_guides_body_imports_all_of_the_last_step(
    api: ApiClient, run: Training, started: list[Job]
) -> None:
    trainings.register(Path(run.directory), run.id, hyperparameters=BEHAVIOUR, model_name="toy")
    body = {"training_id": run.id, "name": "My Trained SAE", "description": "on custom dataset"}
    told = api.post(IMPORT, body)
    assert (api.status, len(told["sae_ids"]), told["already_here"]) == (202, 3, [])
    assert told["batch_id"] == Batch.objects.get().id
    work(started)
    sae = api.get(f"/saes/{told['sae_ids'][0]}")
    assert (sae["name"], sae["status"]) == ("My Trained SAE (L3-mlp)", "ready")
    assert (sae["source"], sae["training_id"]) == ("trained", run.id)
    assert (sae["model_name"], sae["description"]) == ("toy", "on custom dataset")
    kept = sae["sae_metadata"]["training"]
    assert (kept["step"], kept["hyperparameters"]) == (5000, BEHAVIOUR)
    again = api.post(IMPORT, body)
    assert (api.status, again["batch_id"], again["jobs"]) == (200, None, [])
    assert set(again["already_here"]) == set(told["sae_ids"])
    assert api.get("/trainings?search=train_abc")["data"][0]["imported"] == 3
    told_of = run.id
    run.delete()
    gone = api.get(f"/saes/{sae['id']}")
    assert (gone["training_id"], gone["sae_metadata"]["training"]) == (told_of, kept)


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({"pairs": [{"layer": 3, "hook_type": "mlp"}, {"layer": 7}]}, {"L3-mlp", "L7-residual"}),
        ({"pairs": [{"layer": 3, "hook_type": "mlp", "step": 900}]}, {"L3-mlp"}),
        ({"paths": ["checkpoints/checkpoint_900/layer_3_mlp/"]}, {"L3-mlp"}),
        ({"step": 0}, {"L3-residual"}),
    ],
)
def test_exactly_what_is_named_is_imported(
    api: ApiClient, run: Training, chosen: dict[str, Any], names: set[str]
) -> None:
    api.post(IMPORT, {"training_id": run.id, **chosen})
    assert api.status == 202
    found = set(Sae.objects.values_list("name", flat=True))
    assert found == {f"train_abc ({name})" for name in names}


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"pairs": [{"layer": 7, "hook_type": "mlp"}]}, 404, "path_not_found"),
        ({"pairs": [{"layer": 3}]}, 422, "several_saes"),
        ({"pairs": [{"layer": 3}], "paths": ["x"]}, 422, "bad_body"),
        ({"pairs": [{"layer": -1}]}, 422, "bad_body"),
        ({"pairs": []}, 422, "bad_body"),
        ({"paths": ["../../../etc/passwd"]}, 404, "path_not_found"),
        ({"step": 7}, 404, "path_not_found"),
        ({"step": -1}, 422, "bad_body"),
        ({"layers": [3], "hook_types": ["mlp"]}, 422, "bad_body"),
        ({"training_id": "../../etc"}, 404, "not_found"),
        ({"training_id": ""}, 422, "bad_body"),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_imported(
    api: ApiClient, run: Training, wrong: dict[str, Any], status: int, code: str
) -> None:
    told = api.post(IMPORT, {"training_id": run.id, **wrong})
    assert (api.status, told["code"]) == (status, code)
    assert not Sae.objects.exists()


@pytest.mark.parametrize("status", sorted({*Training.Status.values} - {"completed"}))
def test_a_run_that_is_not_completed_gives_nothing_away(
    api: ApiClient, run: Training, status: str
) -> None:
    Training.objects.update(status=status)
    for told in (
        api.get(f"/saes/training/{run.id}/available"),
        api.post(IMPORT, {"training_id": run.id}),
    ):
        assert (api.status, told["code"]) == (400, "training_not_completed")
        assert status in told["detail"]
    assert not Sae.objects.exists()


def test_a_run_whose_folder_is_gone_says_so(api: ApiClient, run: Training) -> None:
    shutil.rmtree(run.directory)
    told = api.get(f"/saes/training/{run.id}/available")
    assert (api.status, told["code"]) == (409, "data_missing")
    assert run.directory not in told["detail"]


def test_the_same_key_imports_once(api: ApiClient, run: Training) -> None:
    key = {"Idempotency-Key": "once"}
    first = api.post(IMPORT, {"training_id": run.id}, **key)
    assert api.post(IMPORT, {"training_id": run.id}, **key) == first
    assert (api.status, Batch.objects.count()) == (202, 1)


def test_viewers_may_look_and_not_import(viewer: User, run: Training) -> None:
    asker = client_of(viewer)
    assert asker.get(f"/saes/training/{run.id}/available")["data"]
    assert asker.post(IMPORT, {"training_id": run.id})["code"] == "forbidden"
    assert not Sae.objects.exists()


@pytest.mark.parametrize("sample", GENERATIONS)
def test_samples_of_both_generations_become_ready(
    api: ApiClient, started: list[Job], settings: Settings, sample: str
) -> None:
    folder = Path(settings.TRAININGS_DIR) / "train_x"
    shutil.copytree(SAMPLES / sample / "repo", folder)
    trainings.register(folder, "train_x", hyperparameters=GENERATIONS[sample])
    told = api.get("/saes/training/train_x/available")["data"]
    paths = [it["path"] for it in told]
    assert paths
    ids = api.post(IMPORT, {"training_id": "train_x", "paths": paths})["sae_ids"]
    work(started)
    assert [api.get(f"/saes/{it}")["status"] for it in ids] == ["ready"] * len(paths)
