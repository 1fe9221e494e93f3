"""Training runs in the admin: the rows that people write by hand, and where they may point."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from saes import roles
from saes.admin.trainings import OUTSIDE
from saes.models import Training
from tests.admin.conftest import signed_in, staff

pytestmark = pytest.mark.django_db
RUNS = "/admin/saes/training/"


@pytest.fixture(autouse=True)
def root(settings: Settings, tmp_path: Path) -> Path:
    settings.TRAININGS_DIR = tmp_path / "trainings"
    settings.IMPORT_ROOTS = {"imports": tmp_path / "imports"}
    for folder in (settings.TRAININGS_DIR, tmp_path / "imports", tmp_path / "outside"):
        (folder / "mine").mkdir(parents=True)
    return tmp_path


def form(directory: object, **changed: str) -> dict[str, object]:
    return {
        "id": "train_mine", "name": "Mine", "status": "completed", "directory": str(directory),
        "model_name": "gpt2", "datasets": '["pile"]', "hyperparameters": '{"k": 5}',
        "current_step": "5", "total_steps": "", "final_loss": "0.5", "final_l0": "", **changed,
    }  # fmt: skip


@pytest.mark.parametrize("inner", ["trainings", "imports"])
def test_a_run_is_added_changed_and_found(client: Client, root: Path, inner: str) -> None:
    folder = root / inner / "mine"
    assert client.post(f"{RUNS}add/", form(folder)).status_code == 302
    row = Training.objects.get()
    assert (row.id, row.directory, row.datasets) == ("train_mine", str(folder), ["pile"])
    assert (row.hyperparameters, row.final_loss, row.total_steps) == ({"k": 5}, 0.5, None)
    page = f"{RUNS}train_5Fmine/change/"
    assert client.post(page, form(folder, name="New", id="train_x")).status_code == 302
    assert (Training.objects.get().id, Training.objects.get().name) == ("train_mine", "New")
    for found in (RUNS, f"{RUNS}?q=gpt2", f"{RUNS}?status=completed", f"{RUNS}?model_name=gpt2"):
        assert "train_mine" in client.get(found).content.decode()
    assert "train_mine" not in client.get(f"{RUNS}?status=failed").content.decode()


@pytest.mark.parametrize(
    "path",
    ["/etc", "/etc/nothing", "/root", "{root}/outside/mine", "{root}/outside/none", "{root}",
     "{root}/trainings", "{root}/trainings/../outside/mine", "{root}/trainings/link",
     "{root}/trainings/link/none", "../../etc", "trainings/mine", "{root}/trainingsx", "~"],
)  # fmt: skip
def test_outside_every_path_has_the_same_answer(client: Client, root: Path, path: str) -> None:
    (root / "trainings/link").symlink_to(root / "outside")
    answer = client.post(f"{RUNS}add/", form(path.replace("{root}", str(root))))
    assert answer.context["errors"] == [[OUTSIDE]]
    assert not Training.objects.exists()


def test_a_folder_that_a_command_registered_stays_with_its_row(client: Client) -> None:
    Training.objects.create(id="train_mine", name="Mine", directory="/mnt/elsewhere/run")
    page = f"{RUNS}train_5Fmine/change/"
    assert client.post(page, form("/mnt/elsewhere/run", name="New")).status_code == 302
    assert client.post(page, form("/mnt/elsewhere/other")).context["errors"] == [[OUTSIDE]]
    assert Training.objects.get().name == "New"


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "../etc"), ("id", "a/b"), ("id", ""), ("id", "a" * 65), ("datasets", '{"a": 1}'),
     ("hyperparameters", "[1]"), ("hyperparameters", "{"), ("hyperparameters", '{"a": [-1e400]}'),
     ("hyperparameters", '{"a": NaN}'), ("datasets", '["\\u0000"]'), ("status", "odd"),
     ("current_step", "-1"), ("directory", ""), ("name", "")],
)  # fmt: skip
def test_nonsense_is_told_at_its_field(client: Client, root: Path, field: str, value: str) -> None:
    asked = {**form(root / "trainings/mine"), field: value}
    answer = client.post(f"{RUNS}add/", asked)
    assert field in answer.context["adminform"].form.errors
    assert not Training.objects.exists()


def test_an_id_that_is_taken_is_refused(client: Client, root: Path) -> None:
    Training.objects.create(id="train_mine", name="First", directory="/x")
    answer = client.post(f"{RUNS}add/", form(root / "trainings/mine"))
    assert "id" in answer.context["adminform"].form.errors
    assert Training.objects.get().name == "First"


@pytest.mark.parametrize(
    ("role", "sees", "adds", "deletes"),
    [("", 403, 403, 403), (roles.VIEWER, 200, 403, 403), (roles.EDITOR, 200, 200, 403),
     (roles.ADMIN, 200, 200, 200)],
)  # fmt: skip
def test_roles_of_runs(role: str, sees: int, adds: int, deletes: int) -> None:
    Training.objects.create(id="train_mine", name="Mine", directory="/x")
    somebody: User = staff("somebody", role)
    client = signed_in(somebody)
    page = f"{RUNS}train_5Fmine/"
    assert client.get(RUNS).status_code == sees
    assert client.get(f"{RUNS}add/").status_code == adds
    assert client.get(f"{page}change/").status_code == sees
    assert client.post(f"{page}change/", form("/x")).status_code == (302 if adds == 200 else 403)
    assert client.get(f"{page}delete/").status_code == deletes
