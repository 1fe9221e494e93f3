"""Which SAEs of a training run are meant, and how each of them is with this library."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from django.contrib.auth.models import User

from saes import folders, imports, roles, trainings
from saes.batches import Brought
from saes.errors import PathNotFound, SeveralSaes
from saes.folders import Place
from saes.imports import Standing
from saes.models import Training
from saes.trainings import COMMUNITY, Item

LOOK = "Look at what the run holds, and choose of that."


@dataclass(frozen=True)
class Pair:
    """A layer with its hook, exactly. Without a hook: the layer's only one."""

    layer: int
    hook: str | None = None
    step: int | None = None


@dataclass(frozen=True)
class Choice:
    """What is asked for of a run: paths, pairs, or everything of a step (the last, if None)."""

    step: int | None = None
    pairs: Sequence[Pair] = ()
    paths: Sequence[str] = ()


@dataclass(frozen=True)
class Held(Standing):
    """One SAE of a run."""

    item: Item


@dataclass(frozen=True)
class Run:
    """Everything that a completed run holds. `saes`: checkpoints of `step`; or its exports."""

    training: Training
    items: list[Item]
    steps: list[int]  # the last one first
    step: int | None
    saes: list[Held]
    exports: list[Held]  # community_format/, where that is something beside `saes`


def look(training: Training, step: int | None = None, *, exports: bool = False) -> Run:
    """Raises TrainingNotCompleted, DataMissing, PathNotFound for a step without checkpoints."""
    items = trainings.items_of(training)
    steps = trainings.steps_of(items)
    _require_step(training, steps, step)
    beside = [it for it in items if it.form == COMMUNITY and steps]
    shown = beside if exports else trainings.offered(items, step)
    at = (steps[0] if step is None else step) if steps and not exports else None
    held = _held(training, [*shown, *beside])
    return Run(training, items, steps, at, held[: len(shown)], held[len(shown) :])


def _require_step(training: Training, steps: Sequence[int], step: int | None) -> None:
    if step is not None and step not in steps:
        there = f"It has {_listed(steps)}." if steps else "It has none."
        raise PathNotFound(
            f"{training.name} has no checkpoints of step {step:,}. {there}", solution=LOOK
        )


def _listed(steps: Sequence[int]) -> str:
    more = f" and {len(steps) - 5:,} more" if len(steps) > 5 else ""
    return ", ".join(f"{step:,}" for step in steps[:5]) + more


def _held(training: Training, items: Sequence[Item]) -> list[Held]:
    root = trainings.root_of(training)
    source = folders.opened(Place(root))
    here, found = imports.here_of(root), []
    for item in items:
        sae = here.get(item.where)
        changed = sae is not None and imports.is_changed(sae, source, item.format)
        found.append(Held(sae, changed, item))
    return found


def bring_in(
    user: User | None, training: Training, choice: Choice, name: str = "", description: str = ""
) -> Brought:
    """Raises Forbidden, TrainingNotCompleted, PathNotFound, SeveralSaes, DiskFull."""
    roles.require(user, roles.ADD)
    items = chosen(training, trainings.items_of(training), choice)
    return imports.import_training(user, training, items, name.strip(), description)


def chosen(training: Training, items: Sequence[Item], choice: Choice) -> list[Item]:
    """Each once, in the order of the wish; never layers crossed with hooks. Raises PathNotFound."""
    steps = trainings.steps_of(list(items))
    if choice.paths:
        found = [_at_path(training, items, path) for path in choice.paths]
    elif choice.pairs:
        pairs = (replace(it, step=choice.step if it.step is None else it.step)
                 for it in choice.pairs)  # fmt: skip
        found = [_of_pair(training, items, steps, pair) for pair in pairs]
    else:
        _require_step(training, steps, choice.step)
        found = trainings.offered(list(items), choice.step)
    return list(dict.fromkeys(found))


def _at_path(training: Training, items: Sequence[Item], path: str) -> Item:
    found = next((it for it in items if it.where == (path.strip("/") or ".")), None)
    if found is None:
        raise PathNotFound(f"{training.name} holds no SAE at {path[:100]!r}.", solution=LOOK)
    return found


def _of_pair(training: Training, items: Sequence[Item], steps: Sequence[int], pair: Pair) -> Item:
    _require_step(training, steps, pair.step)
    layer = [it for it in trainings.offered(list(items), pair.step) if it.layer == pair.layer]
    found = [it for it in layer if pair.hook in (None, it.hook)]
    wish = f"L{pair.layer}" + (f"-{pair.hook}" if pair.hook else "")
    if not found:
        raise PathNotFound(
            f"{training.name} holds no SAE {wish[:100]} at this step.", solution=LOOK
        )
    if len(found) > 1:
        raise SeveralSaes(
            f"{training.name} holds several SAEs {wish}: name the hook, too.",
            [f"{it.layer}:{it.hook}" for it in found],
        )
    return found[0]
