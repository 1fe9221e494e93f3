"""Which SAEs of a run are meant: paths, exact pairs, or all of a step."""

import os
import shutil
from pathlib import Path

import pytest
from pytest_django import Settings
from safetensors import safe_open
from safetensors.numpy import save_file

from saes import picking, trainings
from saes.errors import PathNotFound, SeveralSaes
from saes.models import Sae, Training
from saes.picking import Choice, Pair
from tests.jobs.conftest import SAMPLES

ONE = SAMPLES / "mistudio_v2_topk/repo/checkpoints/checkpoint_5000/layer_3_residual"
PLACES = ("layer_3_residual", "layer_3_mlp", "layer_7_residual")


def put_checkpoint(folder: Path) -> None:
    """The sample as one of this step, layer and hook: the file itself says them, too."""
    _, layer, hook = folder.name.split("_")
    with safe_open(ONE / "checkpoint.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        told = {**file.metadata(), "layer_idx": layer, "hook_type": hook}
    told["step"] = folder.parent.name.removeprefix("checkpoint_")
    folder.mkdir(parents=True)
    save_file(tensors, folder / "checkpoint.safetensors", told)


@pytest.fixture
def run(settings: Settings) -> Training:
    """Two steps of three SAEs, and one that was exported."""
    folder = Path(settings.TRAININGS_DIR) / "train_abc"
    for step in (0, 900, 5000):
        for place in PLACES[: 1 if step == 0 else 3]:
            put_checkpoint(folder / f"checkpoints/checkpoint_{step}/{place}")
    exported = SAMPLES / "mistudio_v1_community_format/repo/community_format"
    shutil.copytree(exported, folder / "community_format")
    return trainings.training_of("train_abc")


def labels(training: Training, choice: Choice) -> list[str]:
    found = picking.chosen(training, trainings.items_of(training), choice)
    return [f"{it.step}:{it.label}" for it in found]


def test_without_more_words_it_is_all_of_the_last_step(run: Training) -> None:
    assert labels(run, Choice()) == ["5000:L3-mlp", "5000:L3-residual", "5000:L7-residual"]
    assert labels(run, Choice(step=900))[0] == "900:L3-mlp"
    assert labels(run, Choice(step=0)) == ["0:L3-residual"]


def test_pairs_are_exact_and_never_layers_crossed_with_hooks(run: Training) -> None:
    pairs = [Pair(7, "residual"), Pair(3, "mlp"), Pair(7, "residual"), Pair(3, "mlp", 900)]
    assert labels(run, Choice(pairs=pairs)) == ["5000:L7-residual", "5000:L3-mlp", "900:L3-mlp"]
    assert labels(run, Choice(step=900, pairs=[Pair(7)])) == ["900:L7-residual"]


@pytest.mark.parametrize(
    "choice",
    [
        Choice(pairs=[Pair(7, "mlp")]),
        Choice(pairs=[Pair(8)]),
        Choice(pairs=[Pair(3, "")]),
        Choice(step=1),
        Choice(pairs=[Pair(3, "mlp", 1)]),
        Choice(step=0, pairs=[Pair(7, "residual")]),
        Choice(paths=["checkpoints/checkpoint_5000"]),
        Choice(paths=["../../etc/passwd"]),
        Choice(paths=["/"]),
    ],
)
def test_what_the_run_does_not_hold_is_refused(run: Training, choice: Choice) -> None:
    with pytest.raises(PathNotFound):
        picking.bring_in(None, run, choice)
    assert not Sae.objects.exists()


def test_a_layer_with_several_hooks_has_to_be_named_with_its_hook(run: Training) -> None:
    with pytest.raises(SeveralSaes) as refused:
        labels(run, Choice(pairs=[Pair(3)]))
    assert refused.value.found == ["3:mlp", "3:residual"]


def test_exports_are_taken_by_their_paths(run: Training) -> None:
    held = picking.look(run)
    assert held.steps == [5000, 900, 0] and held.step == 5000
    export, _ = held.exports
    assert export.item.form == "community_format"
    assert labels(run, Choice(paths=[f"{export.item.where}/"])) == [f"None:{export.item.label}"]
    beside = picking.look(run, exports=True)
    assert (beside.step, beside.saes) == (None, held.exports)


def test_what_is_here_is_told_until_its_files_change(run: Training) -> None:
    brought = picking.bring_in(None, run, Choice(pairs=[Pair(3, "mlp")]), "  Mine ")
    sae = Sae.objects.get()
    assert (sae.name, [job.sae_id for job in brought.jobs]) == ("Mine (L3-mlp)", [sae.id])
    first, *others = picking.look(run).saes
    assert (first.sae, first.can_begin, [it.sae for it in others]) == (sae, False, [None, None])
    again = picking.bring_in(None, run, Choice(pairs=[Pair(3, "mlp")]))
    assert (again.batch, again.here) == (None, [sae])
    os.utime(Path(run.directory) / first.item.where / "checkpoint.safetensors", (1, 1))
    changed = picking.look(run).saes[0]
    assert (changed.sae, changed.is_changed, changed.can_begin) == (sae, True, True)


def test_one_that_asks_for_facts_is_answered_and_not_begun_again(run: Training) -> None:
    picking.bring_in(None, run, Choice(pairs=[Pair(3, "mlp")]))
    Sae.objects.update(status=Sae.Status.ERROR, missing_facts=[{"name": "k"}])
    assert not picking.look(run).saes[0].can_begin
    Sae.objects.update(missing_facts=[])
    assert picking.look(run).saes[0].can_begin
