"""Training runs of miStudio: how they get rows, and which SAEs lie in their folders.

`checkpoints/checkpoint_{step}/layer_{i}[_{hook}]/` and `community_format/layer_{i}[_{hook}]/`.
"""

import os
import re
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from saes import folders
from saes.errors import BadRequest, DataMissing, NotFound, SaeError, TrainingNotCompleted
from saes.folders import Place
from saes.formats import FolderSource, by_slug, find_saes, identify
from saes.models import TRAINING, Training
from saes.models.ids import new_training_id
from saes.training_records import columns_of, record_of

CHECKPOINTS, COMMUNITY = "checkpoints", "community_format"
STEP = re.compile(r"(?:^|/)(?:checkpoint|step)_(\d+)(?=/|$)")
PLACE = re.compile(r"(?:^|/)layer_(\d+)(?:_(\w+))?$")
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LONGEST_PATH = 1000
ENDED = (Training.Status.COMPLETED, Training.Status.FAILED, Training.Status.CANCELLED)


@dataclass(frozen=True)
class Item:
    """One SAE of a run. `step` is None for what was exported when the run ended."""

    where: str
    form: str  # CHECKPOINTS or COMMUNITY
    format: str
    step: int | None
    layer: int | None
    hook: str
    size: int

    @property
    def label(self) -> str:
        """As SAEs of a run are told apart: L3-residual."""
        layer = "L?" if self.layer is None else f"L{self.layer}"
        return f"{layer}-{self.hook}" if self.hook else layer


def training_of(training_id: str) -> Training:
    """Raises NotFound."""
    scan()
    known = ID.fullmatch(training_id)  # else PostgreSQL would be asked for NULs
    found = Training.objects.filter(id=training_id).first() if known else None
    if found is None:
        raise NotFound(f"There is no training {training_id[:50]!r}.")
    return found


# --- rows ----------------------------------------------------------------------------------------


def scan() -> None:
    """Rows for folders in the directory of trainings that have none, under whatever id.

    A folder without a training.json counts as completed: nobody says that it is not.
    """
    found = _found(settings.TRAININGS_DIR)
    rows = dict(Training.objects.values_list("id", "directory"))
    taken = {found.get(Path(it), Path(it)) for it in rows.values()}
    new = [it for it in found if it.name not in rows and found[it] not in taken and is_run(it)]
    new.sort(key=lambda it: (it.name == found[it].name, it.name))  # links first: they are replaced
    folders_of_new = {found[it]: it for it in new}.values()
    # Two that look at the same instant make one row.
    Training.objects.bulk_create(
        (Training(id=it.name, **_columns(it, record_of(it))) for it in folders_of_new),
        ignore_conflicts=True,
    )
    _read_again({*found, *found.values()})


def _read_again(inside: Container[Path]) -> None:
    """A run that had not ended may have: what its record says now is taken over.

    Not its name, which may be somebody's own by now, and nothing for a run that lies elsewhere.
    """
    going_on = Training.objects.exclude(status__in=ENDED)
    for row in going_on:
        if (folder := Path(row.directory)) in inside:
            record = record_of(folder)
            told = {name: it for name, it in columns_of(record).items() if _says(record, name, it)}
            told.pop("name", None)
            if any(getattr(row, name) != it for name, it in told.items()):
                going_on.filter(id=row.id).update(**told)


def _found(root: Path) -> dict[Path, Path]:
    """The folders in it, each with the path that no link is in. Left out is what leads out of it,
    goes round in circles, or may not be looked at."""
    found = dict[Path, Path]()
    with suppress(OSError, RuntimeError):  # there may be no such directory
        top = root.resolve()
        for it in root.iterdir():
            with suppress(OSError, RuntimeError):  # one folder takes no other away
                real = it.resolve() if it.is_symlink() else top / it.name
                if ID.fullmatch(it.name) and real.is_relative_to(top) and it.is_dir():
                    found[it] = real
    return found


def is_run(folder: Path) -> bool:
    """None is one that may not be looked into."""
    try:
        return any((folder / inner).is_dir() for inner in (CHECKPOINTS, COMMUNITY))
    except OSError:
        return False


def register(directory: Path, training_id: str = "", **told: Any) -> Training:
    """A row for a run's folder; `told` outranks its own record. Again, it is the same row.

    Raises DataMissing, BadRequest.
    """
    if not directory.is_dir():
        raise DataMissing(f"There is no folder {directory}.", solution="Give the run's own folder.")
    if training_id and not ID.fullmatch(training_id):
        raise BadRequest(f"{training_id[:50]!r} cannot be the id of a training.")
    folder = directory.resolve()
    if len(str(folder)) > LONGEST_PATH:
        raise BadRequest(f"The path of this folder is longer than {LONGEST_PATH:,} characters.")
    given = {name: value for name, value in told.items() if value not in (None, "")}
    record = record_of(folder)
    columns = {**_columns(folder, record), **given}
    known = {name: it for name, it in columns.items() if name in given or _says(record, name, it)}
    row, _ = Training.objects.update_or_create(
        id=training_id or _id_of(folder, record), defaults=known, create_defaults=columns
    )
    return row


def _says(record: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether the run's own record has it; else a row keeps what it was told before."""
    if name == "status":
        return bool(str(record.get(name)).lower() == value)
    if name == "name":
        return bool(record.get(name))
    return value not in (None, "", [], {})


def _id_of(folder: Path, record: Mapping[str, Any]) -> str:
    """That of its row, its own record's, or a new one. Of several rows it is that of the record."""
    told = str(record.get("id") or "")
    told = told if ID.fullmatch(told) else ""
    rows = Training.objects.filter(directory=str(folder)).values_list("id", flat=True)
    if told in rows or not rows:
        return told or new_training_id()
    return rows[0]


def _columns(directory: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    columns = columns_of(record)
    return {**columns, "name": columns["name"] or directory.name, "directory": str(directory)}


# --- what a run holds ----------------------------------------------------------------------------


def root_of(training: Training) -> str:
    return f"{TRAINING}{training.id}"


def items_of(training: Training) -> list[Item]:
    """Every SAE of the run, by step, layer and hook. Raises TrainingNotCompleted, DataMissing."""
    if not training.is_completed:
        raise TrainingNotCompleted(
            f"The training {training.name} is {training.get_status_display().lower()}, "
            "not completed."
        )
    source = _opened(training)
    found = [_item(source, it.where, it.format) for it in find_saes(source.tree)]
    return sorted(found, key=_order)


def _opened(training: Training) -> FolderSource:
    """Raises DataMissing, also for a folder whose inside would look empty to the server."""
    with suppress(OSError, RuntimeError):
        source = folders.opened(Place(root_of(training)))
        if os.access(training.directory, os.R_OK | os.X_OK, effective_ids=True):
            return source
    raise DataMissing(
        f"The folder of the training {training.name} cannot be read.",
        solution="Check its disk, and that the server's user may read and enter it.",
    )


def steps_of(items: list[Item]) -> list[int]:
    """Those of the checkpoints, the last one first."""
    return sorted({it.step for it in items if it.step is not None}, reverse=True)


def offered(items: list[Item], step: int | None = None) -> list[Item]:
    """The checkpoints of one step, of the last one by default; of a run without them its exports.

    Checkpoints are exact; some exports lost a bias or their centring.
    """
    steps = steps_of(items)
    if step is None and steps:
        step = steps[0]
    return [it for it in items if it.step == step]


def count_of(training: Training) -> int | None:
    """SAEs of the last step, or exported, by names of folders alone: for lists. None: unknown."""
    if not training.is_completed:
        return None
    run = Path(training.directory)
    try:
        checkpoints = {
            int(m[1]): it for it in _folders(run / CHECKPOINTS) if (m := STEP.search(it.name))
        }
        last = checkpoints[max(checkpoints)] if checkpoints else run / COMMUNITY
        return sum(bool(PLACE.search(it.name)) for it in _folders(last)) or int(last.is_dir())
    except OSError:
        return None


def _folders(folder: Path) -> list[Path]:
    return [it for it in folder.iterdir() if it.is_dir()]


def snapshot(training: Training, step: int | None) -> dict[str, Any]:
    """What an SAE keeps of its run, whatever becomes of the row."""
    times = {"started_at": training.started_at, "completed_at": training.completed_at}
    return {
        "training_id": training.id,
        "name": training.name,
        "step": step,
        "total_steps": training.total_steps,
        "model_name": training.model_name,
        "datasets": training.datasets,
        "hyperparameters": training.hyperparameters,
        "final_loss": training.final_loss,
        "final_l0": training.final_l0,
        **{name: value.isoformat() if value else None for name, value in times.items()},
    }


def _item(source: FolderSource, where: str, format: str) -> Item:
    step, place = STEP.search(where), PLACE.search(where)
    files = by_slug(format).files(source.tree, where)
    hints = by_slug(format).hints(source.tree, where)
    layer = int(place[1]) if place else hints["layer"].value if "layer" in hints else None
    return Item(
        where,
        COMMUNITY if COMMUNITY in where.split("/") else CHECKPOINTS,
        format,
        int(step[1]) if step else None,
        layer,
        (place and place[2]) or _hook_in_file(source, where),
        sum(source.size(name) for name in files),
    )


def _hook_in_file(source: FolderSource, where: str) -> str:
    """Of folders of an older version, whose names do not tell it."""
    try:
        return str(identify(source, where)[1].get("hook_type") or "")
    except SaeError:
        return ""


def _order(item: Item) -> tuple[Any, ...]:
    step = -1 if item.step is None else -item.step
    return (step, -1 if item.layer is None else item.layer, item.hook, item.where)
