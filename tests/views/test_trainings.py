"""Pages of training runs: the list, a run, what is imported, and what an SAE keeps of its run."""

import shutil
from pathlib import Path

import pytest
from django.test import Client
from django.utils.html import escape
from pytest_django import Settings

from saes import jobs, picking, room, trainings
from saes.models import Batch, Sae, Training
from saes.picking import Choice, Pair
from tests.imports.test_picking import put_checkpoint, run
from tests.imports.test_trainings import GENERATIONS
from tests.views.conftest import signed_in
from tests.views.people import somebody

__all__ = ["run"]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folders(settings: Settings, tmp_path: Path, data_dir: object) -> Path:
    settings.TRAININGS_DIR = tmp_path / "trainings"
    settings.TRAININGS_DIR.mkdir()
    return tmp_path


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_without_runs_the_page_says_where_they_are_looked_for(
    client: Client, settings: Settings
) -> None:
    text = text_of(client, "/trainings/")
    assert str(settings.TRAININGS_DIR) in text
    assert "sae_register_training DIR" in text and "sae_sync_trainings" in text
    viewer = signed_in(somebody("vera", "viewer"))
    assert str(settings.TRAININGS_DIR) not in text_of(viewer, "/trainings/")


def test_runs_are_listed_searched_and_filtered(client: Client, run: Training) -> None:
    Training.objects.create(
        name="Other <b>", status="running", directory="/x", model_name="gpt2", final_loss=0.123456,
        current_step=1000, total_steps=2000, datasets=["pile"],
    )  # fmt: skip
    text = text_of(client, "/trainings/")
    for shown in ("train_abc", escape("Other <b>"), "0.1235", "of 2,000", "pile", "Running"):
        assert shown in text, shown
    assert "train_abc" not in text_of(client, "/trainings/?status=running")
    assert "train_abc" not in text_of(client, "/trainings/?search=gpt2")
    assert "No run matches" in text_of(client, "/trainings/?search=%00nothing")
    assert "train_abc" in text_of(client, "/trainings/?status=nonsense&page=99")


def test_a_run_shows_its_saes_all_ticked_and_the_steps(client: Client, run: Training) -> None:
    text = text_of(client, f"/trainings/{run.id}/")
    assert text.count('name="where"') == text.count(" data-missing checked") == 3
    assert "5,000 (last)" in text and 'value="exports"' in text
    assert text_of(client, f"/trainings/{run.id}/?step=0").count('name="where"') == 1
    assert "community_format/" in text_of(client, f"/trainings/{run.id}/?step=exports")
    assert "no checkpoints of step 7" in text_of(client, f"/trainings/{run.id}/?step=7")
    assert "of step 5,000" in text_of(client, f"/trainings/{run.id}/?step=nonsense")


def test_exactly_the_ticked_ones_are_imported(client: Client, run: Training) -> None:
    paths = [
        f"checkpoints/checkpoint_{place}" for place in ("5000/layer_3_mlp", "900/layer_7_residual")
    ]
    answer = client.post(f"/trainings/{run.id}/import/", {"where": paths, "name": "Mine"})
    assert answer.headers["Location"] == f"/jobs/?batch={Batch.objects.get().id}"
    assert set(Sae.objects.values_list("name", "import_path")) == {
        ("Mine (L3-mlp)", paths[0]), ("Mine (L7-residual)", paths[1]),
    }  # fmt: skip
    assert "2 SAEs are on their way" in text_of(client, answer.headers["Location"])
    sae = Sae.objects.get(import_path=paths[0])
    text = text_of(client, f"/trainings/{run.id}/")
    assert f"/saes/{sae.id}/" in text and text.count('name="where"') == 2
    again = client.post(f"/trainings/{run.id}/import/", {"where": paths}, follow=True)
    assert "in the library already, or on their way" in again.content.decode()
    assert Batch.objects.count() == 1


@pytest.mark.parametrize(
    ("where", "status"), [([], 302), (["../../etc"], 404), (["checkpoints"], 404)]
)
def test_what_is_not_there_imports_nothing(
    client: Client, run: Training, where: list[str], status: int
) -> None:
    answer = client.post(f"/trainings/{run.id}/import/", {"where": where})
    assert (answer.status_code, Sae.objects.count()) == (status, 0)


@pytest.mark.parametrize("status", sorted({*Training.Status.values} - {"completed"}))
def test_a_run_that_is_not_completed_says_so(client: Client, run: Training, status: str) -> None:
    Training.objects.update(status=status)
    text = text_of(client, f"/trainings/{run.id}/")
    assert f"is {status}, not completed" in text and 'name="where"' not in text
    paths = ["checkpoints/checkpoint_5000/layer_3_mlp"]
    assert client.post(f"/trainings/{run.id}/import/", {"where": paths}).status_code == 400


def test_a_run_whose_folder_is_gone_still_tells_its_facts(client: Client, run: Training) -> None:
    shutil.rmtree(run.directory)
    Training.objects.update(final_l0=12.5)
    text = text_of(client, f"/trainings/{run.id}/")
    assert "is not there" in text and "12.5" in text


@pytest.mark.parametrize("way", ["train_nobody", "..%2f..%2fetc", "%00", "a" * 300, "%3Cb%3E"])
def test_an_id_of_nobody_is_not_found(client: Client, way: str) -> None:
    assert client.get(f"/trainings/{way}/").status_code == 404


def test_a_viewer_may_look_and_not_choose(run: Training) -> None:
    viewer = signed_in(somebody("vera", "viewer"))
    text = text_of(viewer, f"/trainings/{run.id}/")
    assert 'name="where"' not in text and run.directory not in text
    assert "checkpoint_5000/layer_3_mlp" in text and "As a viewer" in text


def test_an_sae_shows_what_it_keeps_of_its_run(client: Client, folders: Path) -> None:
    folder = folders / "trainings/train_kept"
    put_checkpoint(folder / "checkpoints/checkpoint_5000/layer_3_residual")
    row = trainings.register(
        folder, "train_kept", name="Kept run", hyperparameters=GENERATIONS["mistudio_v2_topk"],
        datasets=["pile"], final_loss=0.25, final_l0=12.5, total_steps=6000,
    )  # fmt: skip
    brought = picking.bring_in(None, row, Choice(pairs=[Pair(3)]))
    jobs.run(brought.jobs[0].id)
    page = f"/saes/{brought.jobs[0].sae_id}/"
    for told in ("Kept run", "5,000 of 6,000", "12.5", "pile", "top_k_sparsity"):
        assert told in text_of(client, page), told
    assert 'href="/trainings/train_kept/"' in text_of(client, page)
    row.delete()
    text = text_of(client, page)
    assert (
        "Kept run" in text and "not registered any more" in text and "/trainings/train" not in text
    )


def test_a_disk_without_room_is_told_before_anything_begins(
    client: Client, run: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MARGIN", 10**18)
    paths = ["checkpoints/checkpoint_5000/layer_3_mlp"]
    answer = client.post(f"/trainings/{run.id}/import/", {"where": paths})
    assert (answer.status_code, Sae.objects.count()) == (507, 0)
