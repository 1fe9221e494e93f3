"""The files of one dictionary_learning SAE, opened: where they lie, and what is nested in them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from saes.errors import BrokenFile, NotThisFormat, TooLarge, UnsafeFormat, UnsupportedArchitecture
from saes.formats.base import Source, Tree, inside, parent
from saes.formats.configs import Config, read_config
from saes.formats.dictionary_learning_classes import CLASSES, TRAINERS
from saes.formats.files.containers import Container
from saes.formats.files.opening import open_container
from saes.formats.single import WEIGHTS

AE, CONFIG, MIXIN = "ae.pt", "config.json", "model.safetensors"
STEP = re.compile(r"ae_\d+\.pt", re.ASCII)
STEP_FOLDER = re.compile(r"_step_\d+(?:/|$)", re.ASCII)
LOOKS_FOR = "`ae.pt` or `checkpoints/ae_{step}.pt` with the trainer's `config.json`"
# An interrupted run leaves the state of its trainer: the SAE in `ae`, before its biases are scaled.
NEST, FACTOR = "ae.", "norm_factor"
LEFTOVERS = ("optimizer.", "scheduler.")
# A fork normalises its input by these; it stores them as NaN where it does not.
NORMALISER = ("target_rms", "activation_mean", "activation_std", "activation_global_scale")
SIZES = ("activation_dim", "dict_size")


def weights_of(tree: Tree, where: str) -> str | None:
    """The weight file of the SAE `where`, by its name alone."""
    if where in tree.names:
        return where if where.endswith(WEIGHTS) else None
    if tree.has(where, AE):
        return inside(where, AE)
    both = tree.has(where, MIXIN) and tree.has(where, CONFIG)
    return inside(where, MIXIN) if both else None


def config_of(tree: Tree, weights: str) -> str | None:
    """Beside the weights, or in the trainer's folder above them."""
    folder = parent(weights)
    for place in (folder, parent(folder)) if folder.endswith("checkpoints") else (folder,):
        if tree.has(place, CONFIG):
            return inside(place, CONFIG)
    return None


@dataclass(frozen=True)
class Stored:
    """`container` holds the SAE's tensors alone, under the names that its class gives them."""

    container: Container
    config: Config
    factor: float = 1.0  # by which its biases are still to be scaled
    is_snapshot: bool = False  # of a run that went on

    @cached_property
    def trainer(self) -> Config:
        trainer = self.config.section("trainer")
        return trainer if trainer.values else self.config

    @property
    def buffer(self) -> Config:
        return self.config.section("buffer")

    @property
    def told(self) -> str | None:
        """The class that the configuration names, if only by its trainer."""
        trainer = self.trainer.text("trainer_class") or ""
        trained = TRAINERS[trainer].name if trainer in TRAINERS else trainer
        return self.trainer.text("dict_class") or trained or None

    @property
    def is_crosscoder(self) -> bool:
        return len(self.container.shapes.get("encoder.weight", ())) == 3


def opened(source: Source, where: str) -> Stored:
    """Raises NotThisFormat, BrokenFile, UnsafeFormat, UnsupportedArchitecture."""
    weights = weights_of(source.tree, where)
    if weights is None:
        raise NotThisFormat(f"It looks for {LOOKS_FOR}.")
    name = config_of(source.tree, weights)
    base = weights.rpartition("/")[2]
    named = base == AE or (STEP.fullmatch(base) is not None and name is not None)
    config = _read_config(source, name, named) or Config(weights, {})
    ours = named or is_ours(config)
    stored = _unpacked(source, _container(source, weights, ours), config)
    if not ours and not is_ours(stored.config) and not _is_telling(stored.container):
        raise NotThisFormat("Neither its names nor its tensors are dictionary_learning's.")
    of_step = STEP.fullmatch(base) is not None or STEP_FOLDER.search(where) is not None
    container = _without_normaliser(source, stored.container)
    return replace(stored, container=container, is_snapshot=stored.is_snapshot or of_step)


def _read_config(source: Source, name: str | None, named: bool) -> Config | None:
    if name is None:
        return None
    try:
        return read_config(source, name)
    except (BrokenFile, TooLarge):
        if named:
            raise
        return None


def is_ours(config: Config) -> bool:
    trainer = config.values.get("trainer")
    told = trainer if isinstance(trainer, dict) else config.values
    return all(key in told for key in SIZES) or "dict_class" in told


def _is_telling(container: Container) -> bool:
    """Without a name and a configuration: tensors of no other family, and no mere ReLU."""
    fitting = {it.name for it in CLASSES.values() if it.fits(container)}
    buffers = {"k", "threshold"} <= container.members.keys()
    telling = {"GatedAutoEncoder", "MatryoshkaBatchTopKSAE"}
    return bool(fitting & telling) or (buffers and "AutoEncoderTopK" in fitting)


def _container(source: Source, weights: str, ours: bool) -> Container:
    try:
        return open_container(source, weights)
    except (BrokenFile, UnsafeFormat) as error:
        if ours:
            raise
        raise NotThisFormat(f"It looks for {LOOKS_FOR}.") from error


def _unpacked(source: Source, container: Container, config: Config) -> Stored:
    if not any(name.startswith(NEST) for name in container.members):
        return Stored(container, config)
    kept = [it for it in container.members if it != FACTOR and not it.startswith(LEFTOVERS)]
    members = {name.removeprefix(NEST): container.members[name] for name in kept}
    if len(members) != len(kept):
        raise BrokenFile(f"`{container.name}` holds a tensor both in `ae` and beside it.")
    told = config if config.values else Config(container.name, _nested_config(container.objects))
    factor = _factor(source, container)
    return Stored(replace(container, members=members), told, factor, is_snapshot=True)


def _nested_config(objects: Mapping[str, Any]) -> dict[str, Any]:
    start = "config."
    found = {key.removeprefix(start): it for key, it in objects.items() if key.startswith(start)}
    return {"trainer": found} if found else {}


def _factor(source: Source, container: Container) -> float:
    """norm_factor, None where activations were not normalised."""
    stored = FACTOR in container.members
    told = container.scalar(source, FACTOR) if stored else container.objects.get(FACTOR)
    factor = Config(container.name, {FACTOR: told}).number(FACTOR)
    if factor is not None and factor <= 0:
        raise BrokenFile(f"`{container.name}`: {FACTOR} should be above zero.")
    return 1.0 if factor is None else factor


def _without_normaliser(source: Source, container: Container) -> Container:
    mean = container.members.get("activation_mean")
    if mean is None or not mean.shape or 0 in mean.shape:
        return container
    first = replace(container, members={"activation_mean": replace(mean, shape=())})
    value = first.scalar(source, "activation_mean")
    if value == value:  # not NaN
        raise UnsupportedArchitecture(
            f"`{container.name}` normalises its input by activation_mean and activation_std, "
            "which no standard form can say."
        )
    kept = {name: it for name, it in container.members.items() if name not in NORMALISER}
    return replace(container, members=kept)
