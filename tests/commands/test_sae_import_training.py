"""`manage.py sae_import_training`: exact pairs or all of a step, followed to their end."""

from pathlib import Path

import pytest

from saes import trainings
from saes.models import Sae, Training
from tests.commands.conftest import command
from tests.imports.conftest import library, no_queue
from tests.imports.test_picking import run
from tests.imports.test_trainings import GENERATIONS

__all__ = ["library", "no_queue", "run"]
BEHAVIOUR = GENERATIONS["mistudio_v2_topk"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_pairs_are_imported_and_waited_for(run: Training) -> None:
    trainings.register(Path(run.directory), run.id, hyperparameters=BEHAVIOUR)
    ran = command("sae_import_training", run.id, "--pair", "3:mlp", "--pair", "7", "--name", "Mine",
                  "--wait", "--json")  # fmt: skip
    assert (ran.code, ran.json["failed"], len(ran.json["jobs"])) == (0, [], 2)
    assert set(Sae.objects.values_list("name", "status")) == {
        ("Mine (L3-mlp)", "ready"), ("Mine (L7-residual)", "ready"),
    }  # fmt: skip
    again = command("sae_import_training", run.id, "--all", "--json").json
    assert len(again["jobs"]) == 1 and set(again["already_here"]) == set(ran.json["sae_ids"])


def test_of_several_nothing_is_taken_by_mistake(run: Training) -> None:
    ran = command("sae_import_training", run.id)
    assert (ran.code, Sae.objects.count()) == (1, 0)
    assert "  --pair 3:mlp\n  --pair 3:residual\n  --pair 7:residual" in ran.err
    ran = command("sae_import_training", run.id, "--step", 0)
    assert ran.code == 0 and "Batch" in ran.out and "make start" in ran.err


def test_what_fails_is_named_by_its_place(run: Training) -> None:
    file = Path(run.directory) / "checkpoints/checkpoint_0/layer_3_residual/checkpoint.safetensors"
    file.write_bytes(b"nonsense")
    ran = command("sae_import_training", run.id, "--step", 0, "--all", "--wait", "--json")
    assert ran.code == 1
    [failed] = ran.json["failed"]
    assert failed["filepath"].endswith("checkpoint_0/layer_3_residual") and failed["detail"]


def test_wrong_words_are_told(run: Training) -> None:
    assert command("sae_import_training", run.id, "--all", "--pair", "3").code == 2
    assert "no whole number" in command("sae_import_training", run.id, "--pair", "x:mlp").err
    assert command("sae_import_training", "train_nobody").code == 1
    Training.objects.update(status="running")
    ran = command("sae_import_training", run.id, "--all", "--json")
    assert (ran.code, ran.json["code"]) == (1, "training_not_completed")
