"""dictionary_learning: ae.pt and the config.json of its trainer.

A final ae.pt is flat. That of an interrupted run holds the whole trainer, and biases that training
on scaled activations has left small: they are scaled here as the library does before its last save.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saes.errors import BrokenFile, MissingFact, NotThisFormat, UnsupportedArchitecture
from saes.formats import dictionary_learning_files as files
from saes.formats import dictionary_learning_sites as sites
from saes.formats.architectures import Shape
from saes.formats.base import (
    Facts,
    Folder,
    Given,
    Origin,
    Sae,
    SaeInfo,
    Source,
    Tree,
    as_facts,
    inside,
)
from saes.formats.dictionary_learning_classes import NUMBER, DictClass, candidates
from saes.formats.dictionary_learning_files import Stored
from saes.formats.family import Family, Reading, Tensors, dimensions
from saes.formats.folding import times
from saes.formats.given import K, cleaned, dtype_words, refuse_not_plain
from saes.formats.names import hints_from
from saes.formats.neighbours import is_upload_of_sae
from saes.formats.single import spread, stated
from saes.progress import Reporter
from saes.tensors import Held

if TYPE_CHECKING:
    from saes.reference import Reference

OF_TRAINING = {"BatchTopKSAE": "batchtopk", "MatryoshkaBatchTopKSAE": "matryoshka_batchtopk"}
WHICH_CLASS = MissingFact(
    "architecture",
    "Its tensors are those of two classes, and no config.json tells which. Which is it?",
    {
        "topk": "AutoEncoderTopK: the k largest features of each token fire",
        "jumprelu": "BatchTopKSAE: every feature above the stored threshold fires",
    },
)
NO_THRESHOLD = MissingFact(
    "architecture",
    "It was trained on the largest features of whole batches, before thresholds were stored. "
    "How is it to be used?",
    {"topk": "the k largest features of each token fire, as many as a batch had on average"},
)
PLACES = ("hook_name", "hook_type")


class DictionaryLearning(Family):
    slug: ClassVar[str] = "dictionary_learning"
    label: ClassVar[str] = "dictionary_learning"
    looks_for: ClassVar[str] = files.LOOKS_FOR

    architectures: ClassVar[Sequence[str]] = ("standard", "gated", "topk", "jumprelu")

    def find(self, tree: Tree) -> list[str]:
        finals = tree.folders_with(files.AE, files.CONFIG)
        steps = [
            inside(folder, base)
            for folder, bases in tree.folders.items()
            for base in bases
            if files.STEP.fullmatch(base) and files.config_of(tree, inside(folder, base))
        ]
        uploads = tree.folders_with(files.MIXIN, files.CONFIG)
        return sorted({*finals, *steps, *(it for it in uploads if is_upload_of_sae(tree, it))})

    def files(self, tree: Tree, where: str) -> list[str]:
        weights = files.weights_of(tree, where) or where
        config = files.config_of(tree, weights)
        return [weights, config] if config else [weights]

    def hints(self, tree: Tree, where: str) -> Facts:
        return {**hints_from(where, tree.repo_id), **sites.by_folders(where)}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        stored = files.opened(source, where)
        told = {**_hints(source.tree, where, stored), **_described(stored)}
        names, specs = self.files(source.tree, where), stored.container.specs
        if stored.is_crosscoder:
            facts = stated(stored.config.name, {**told, **_of_crosscoder(stored)}, given)
            return Reading(SaeInfo(self.slug, where, facts, specs, names), lambda folder: {})
        chosen, missing = _chosen(stored, given)
        facts = {**told, **_facts(source, stored, chosen)}
        if missing:
            facts.pop("architecture")
        elif chosen.architecture == "topk" and not facts.keys() | given.keys() >= {"k"}:
            missing = [K]
        info = SaeInfo(
            self.slug, where, stated(stored.config.name, facts, given), specs, names, missing
        )
        return Reading(info, lambda folder: _tensors(folder, stored, chosen))

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        from saes.formats.dictionary_learning_reference import forward

        info = self.probe(source, where, given)
        refuse_not_plain(info)
        stored = files.opened(source, where)
        chosen, _ = _chosen(stored, cleaned(given))
        path = source.path(stored.container.name)
        return forward(path, chosen.name, info)

    def save(self, sae: Sae, target: Path, progress: Reporter) -> list[Path]:
        from saes.formats.dictionary_learning_writer import save

        return save(sae, target, progress)


def _chosen(stored: Stored, given: Given) -> tuple[DictClass, list[MissingFact]]:
    """The class, and what has to be asked before it can be used."""
    found = candidates(stored.container, stored.config.name, stored.told)
    if not found:
        error = UnsupportedArchitecture if files.is_ours(stored.config) else NotThisFormat
        raise error(
            f"`{stored.container.name}` holds the tensors of none of dictionary_learning's classes."
        )
    if stored.told is None and found[0].architecture == "standard" and stored.trainer.whole("k"):
        raise UnsupportedArchitecture(
            f"`{stored.config.name}` tells a k, but no class with these tensors counts features."
        )
    wanted = [it for it in found if it.architecture == given.get("architecture")]
    chosen = (wanted or found)[0]
    missing = [] if wanted or len(found) == 1 else [WHICH_CLASS]
    if chosen.one_threshold and "threshold" not in stored.container.members:
        missing = [] if given.get("architecture") == "topk" else [NO_THRESHOLD]
        chosen = replace(chosen, architecture="topk", one_threshold=False)
    if stored.factor != 1 and not chosen.scaled:
        raise UnsupportedArchitecture(
            f"`{stored.container.name}`: biases of the class {chosen.name} are never scaled, but "
            "norm_factor says that they should be."
        )
    return chosen, missing


def _hints(tree: Tree, where: str, stored: Stored) -> Facts:
    """Names of places stand for what a submodule gives; an SAE of its input lies elsewhere."""
    layer = stored.trainer.whole("layer", least=0)
    told = {**hints_from(where, tree.repo_id), **sites.by_folders(where, layer)}
    if _reads_output(stored):
        return told
    return {name: fact for name, fact in told.items() if name not in PLACES}


def _reads_output(stored: Stored) -> bool:
    return stored.buffer.text("io") in (None, "out")


def _described(stored: Stored) -> Facts:
    trainer, buffer = stored.trainer, stored.buffer
    model = trainer.text("model_name") or _last_part(trainer.text("lm_name"))
    told = {"model_name": model or None, "context_size": buffer.whole("ctx_len")}
    layer, name = trainer.whole("layer", least=0), trainer.text("submodule_name") or ""
    place = sites.of_submodule(name, layer)
    if layer is not None:
        place["layer"] = layer
    if not _reads_output(stored):
        place = {"layer": place.get("layer")}
    return as_facts(Origin.FILE, {**told, **place})


def _last_part(lm_name: str | None) -> str:
    """As SAELens names the model. What is written here tells the whole name beside it."""
    return (lm_name or "").rstrip("/").rpartition("/")[2]


def _facts(source: Source, stored: Stored, chosen: DictClass) -> dict[str, Any]:
    container = stored.container
    sizes = dimensions(container.name, _shapes(stored, chosen), chosen.architecture)
    for key, size in zip(files.SIZES, (sizes["d_in"], sizes["d_sae"]), strict=True):
        if stored.trainer.whole(key) not in (None, size):
            raise BrokenFile(f"`{stored.config.name}`: {key} is not the {size} of the weights.")
    constants = {
        "apply_b_dec_to_input": chosen.centred,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "training_architecture": OF_TRAINING.get(chosen.name),
    }
    told: dict[str, Any] = {"architecture": chosen.architecture, **sizes}
    told |= {
        "dtype": chosen.layout.dtype(container),
        "k": _k(source, stored, chosen, sizes["d_sae"]),
    }
    return {**as_facts(Origin.CATALOGUE, constants), **as_facts(Origin.FILE, told)}


def _shapes(stored: Stored, chosen: DictClass) -> Mapping[str, Shape]:
    shapes = chosen.layout.shapes(stored.container, without=chosen.buffers)
    if chosen.one_threshold and shapes.get("threshold") in NUMBER:
        shapes["threshold"] = shapes.get("b_enc", ())
    return shapes


def _k(source: Source, stored: Stored, chosen: DictClass, d_sae: int) -> int | None:
    """The buffer's. In a run's snapshots k may still have been on its way to the configured one."""
    if "k" not in chosen.buffers:
        return None
    told = stored.trainer.whole("k") if chosen.architecture == "topk" else None
    if "k" not in stored.container.members:
        return told
    found = stored.container.scalar(source, "k")
    if chosen.architecture != "topk":  # where k is of training alone, and d_sae means no limit
        return found if type(found) is int and 1 <= found < d_sae else None
    if type(found) is not int or found < 1:
        raise BrokenFile(f"`{stored.container.name}`: k should be a whole number from 1 on.")
    if told not in (None, found) and not stored.is_snapshot:
        raise BrokenFile(
            f"`{stored.config.name}` says that k is {told}, `{stored.container.name}` {found}."
        )
    return found


def _of_crosscoder(stored: Stored) -> Facts:
    """encoder.weight [n, d_in, d_sae]: n models or layers that it reads at once."""
    encoder = stored.container.members["encoder.weight"]
    n_sources, d_in, d_sae = encoder.shape
    sizes = {"d_in": d_in, "d_sae": d_sae, "d_out": d_in, "n_sources": n_sources}
    told = {"architecture": "crosscoder", "dtype": dtype_words(encoder.dtype), **sizes}
    return as_facts(Origin.FILE, told)


def _tensors(folder: Folder, stored: Stored, chosen: DictClass) -> Tensors:
    tensors = chosen.layout.tensors(folder, stored.container)
    if chosen.one_threshold:
        tensors["threshold"] = _threshold(folder, stored, tensors["b_enc"].shape)
    return {
        name: times(it, stored.factor) if name in chosen.scaled else it
        for name, it in tensors.items()
    }


def _threshold(folder: Folder, stored: Stored, shape: Shape) -> Held:
    """For each feature the same one. Below zero it was never estimated, and is not scaled."""
    is_estimated = stored.container.scalar(folder, "threshold") >= 0
    factor = float(np.float32(stored.factor)) if is_estimated else 1.0
    return spread(folder, stored.container, "threshold", shape[0], factor)
