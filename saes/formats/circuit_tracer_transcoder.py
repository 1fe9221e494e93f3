"""circuit-tracer's transcoders: layer_N.safetensors for each layer, one config.yaml for all.

The encoder is stored features first, the decoder as in our neutral form; what is not square shows
it by its shape. circuit-tracer applies no ReLU after JumpReLU or top-k: thresholds below zero are
therefore refused, and a top-k that would keep negative values is warned of.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from saes import reference as plain
from saes.errors import BrokenFile, MissingFact, UnsupportedArchitecture
from saes.formats.architectures import TOPK, Shape
from saes.formats.base import (
    Fact,
    Facts,
    Folder,
    Given,
    Origin,
    SaeInfo,
    Source,
    Tree,
    as_facts,
    inside,
    parent,
)
from saes.formats.circuit_tracer_files import (
    CONFIG,
    LAYER_FILE,
    LOOKS_FOR,
    NAMES,
    OPTIONAL,
    THRESHOLD,
    WANDB,
    Layer,
    check_widths,
    open_layer,
    published,
    told_by,
    weight_file,
)
from saes.formats.family import Family, Layout, Reading, Tensors, dimensions
from saes.formats.files.containers import Container
from saes.formats.files.rereading import Reread, reopen
from saes.formats.given import K, cleaned
from saes.formats.names import hints_from
from saes.formats.single import stated
from saes.tensors import Held

if TYPE_CHECKING:
    from saes.reference import Activation, Floats, Reference

CONSTANTS = {
    "apply_b_dec_to_input": False,
    "normalize_activations": "none",
    "reshape_activations": "none",
}
PUBLISHED_K = {"facebook/crv-8b-instruct-transcoders": 128}  # its config.yaml does not say it
ACTIVATIONS = {"relu": "", "topk": "topk_", "jumprelu": "jumprelu_"}
ARCHITECTURE = MissingFact(
    "architecture",
    "No configuration lies beside the file. What does its encoder end in?",
    {
        "transcoder": "a ReLU: every feature above zero fires",
        "topk_transcoder": "a top-k: only the k largest features fire",
    },
)
ORIENTATION = MissingFact(
    "orientation",
    "W_enc is square: its shape does not show which axis counts the features. Which is it?",
    {
        "d_sae,d_in": "the first, as circuit-tracer writes it",
        "d_in,d_sae": "the last, as SAELens writes it",
    },
)
SIGNED = (
    "circuit-tracer keeps negative values among the k largest, here they become zero: "
    "they differ only where fewer than k features are above zero"
)


class CircuitTracerTranscoder(Family):
    slug: ClassVar[str] = "circuit_tracer_transcoder"
    label: ClassVar[str] = "circuit-tracer transcoder"
    looks_for: ClassVar[str] = LOOKS_FOR

    def find(self, tree: Tree) -> list[str]:
        return sorted(
            inside(folder, base)
            for folder, bases in tree.folders.items()
            if bases & {CONFIG, *WANDB}
            for base in bases
            if LAYER_FILE.search(base)
        )

    def files(self, tree: Tree, where: str) -> list[str]:
        file = weight_file(tree, where)
        folder = parent(file)
        return [file, *(inside(folder, it) for it in (CONFIG, *WANDB) if tree.has(folder, it))]

    def hints(self, tree: Tree, where: str) -> Facts:
        named = LAYER_FILE.search(where)
        layer = int(named[1]) if named else None
        return {
            **hints_from(where, tree.repo_id),
            **published(tree.repo_id, layer),
            **as_facts(Origin.PATH, {"layer": layer}),
            "hook_type": Fact("transcoder", Origin.CATALOGUE),
        }

    def read(self, source: Source, where: str, given: Given) -> Reading:
        stored = open_layer(source, where)
        layout = _layout(stored, given)
        facts = self._facts(source, stored, layout, given)
        container, files = stored.container, self.files(source.tree, where)
        missing = _missing(stored, facts, given)
        if ARCHITECTURE in missing:
            facts.pop("architecture")
        facts = stated(container.name, facts, given, "W_enc" in layout.turned)
        info = SaeInfo(self.slug, where, facts, container.specs, files, missing)
        return Reading(info, lambda folder: _tensors(folder, container, layout))

    def _facts(
        self, source: Source, stored: "Layer", layout: Layout, given: Given
    ) -> dict[str, Fact]:
        container = stored.container
        activation = _activation(stored, given)
        k = _k(source, stored) if activation == "topk" else None
        skip = "skip_" if "W_skip" in container.members else ""
        architecture = f"{ACTIVATIONS[activation]}{skip}transcoder"
        dims = dimensions(
            container.name, _shapes(container, layout, activation == "topk"), architecture
        )
        check_widths(stored.wandb, dims)
        hints = self.hints(source.tree, container.name)
        layer = hints["layer"].value if "layer" in hints else None
        warning = SIGNED if activation == "topk" else None
        told = {"architecture": architecture, **dims, "dtype": layout.dtype(container), "k": k}
        return {
            **hints,
            **as_facts(Origin.CATALOGUE, {**CONSTANTS, "warning": warning}),
            **as_facts(Origin.FILE, told),
            **told_by(stored.config, layer),
        }

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        """activation(x @ W_enc.T + b_enc) @ W_dec + b_dec + x @ W_skip.T."""
        given = cleaned(given)
        info = self.read(source, where, given).info
        file = reopen(source.path(weight_file(source.tree, where)))
        encoder, decoder = file.matrix("W_enc"), file.matrix("W_dec")
        d_sae = len(file.vector("b_enc"))
        said_last = encoder.shape == (d_sae, d_sae) and given.get("orientation") == "d_in,d_sae"
        features_last = said_last or encoder.shape[0] != d_sae
        return plain.Plain(
            encoder=encoder if features_last else encoder.transposed,
            decoder=decoder if decoder.shape[0] == d_sae else decoder.transposed,
            b_dec=file.vector("b_dec"),
            activation=_as_defined(file, info),
            centre=given.get("apply_b_dec_to_input", False),
            normalisation=given.get("normalize_activations", "none"),
            skip=file.matrix("W_skip").transposed if "W_skip" in file.names else None,
            transcodes=True,
        )


def _activation(stored: Layer, given: Given) -> str:
    """relu, topk or jumprelu: as config.yaml says it, or else as the tensors do."""
    told = (stored.config.text("activation") or "").lower().replace("_", "")
    if told and told not in ACTIVATIONS:
        raise UnsupportedArchitecture(
            f"`{stored.config.name}`: the activation {told[:40]} has no standard form."
        )
    members = stored.container.members
    shown = "jumprelu" if THRESHOLD in members else "topk" if "k" in members else None
    if told and shown and told != shown:
        raise BrokenFile(f"`{stored.config.name}` says {told}, the tensors say {shown}.")
    is_topk = str(given.get("architecture")).startswith("topk") and not stored.is_configured
    return told or shown or ("topk" if is_topk else "relu")


def _k(source: Source, stored: Layer) -> int | None:
    told = stored.config.whole("k") or PUBLISHED_K.get(source.tree.repo_id or "")
    if "k" not in stored.container.members:
        return told
    own = stored.container.scalar(source, "k")
    if not float(own).is_integer() or told not in (None, own):
        raise BrokenFile(f"`{stored.container.name}`: k is {own:g}, config.yaml says {told}.")
    return int(own)


def _layout(stored: Layer, given: Given) -> Layout:
    """Which matrices are turned, by the axis that counts features; square ones by their family."""
    shapes = stored.container.shapes
    width = shapes["b_enc"][0]
    turned = list[str]()
    is_last = stored.is_square and given.get("orientation") == "d_in,d_sae"
    if shapes["W_enc"][0] == width and not is_last:
        turned.append("W_enc")
    if shapes["W_dec"][0] != width:  # as early versions of circuit-tracer expected it
        turned.append("W_dec")
    there = {name: it for name, it in OPTIONAL.items() if it in stored.container.members}
    return Layout({**NAMES, **there}, turned)


def _shapes(container: Container, layout: Layout, has_k: bool) -> dict[str, Shape]:
    """One threshold may stand for all features."""
    shapes = layout.shapes(container, without=("k",) if has_k else ())
    if shapes.get("threshold") in ((), (1,)):
        shapes["threshold"] = shapes["b_enc"]
    return shapes


def _missing(stored: Layer, facts: Facts, given: Given) -> Sequence[MissingFact]:
    architecture, members = facts["architecture"].value, stored.container.members
    found = list[MissingFact]()
    told = stored.is_configured or {THRESHOLD, "k"} & members.keys()
    if not told and "architecture" not in given:
        found.append(ARCHITECTURE)
    if stored.is_square and not stored.is_named and "orientation" not in given:
        found.append(ORIENTATION)
    if architecture in TOPK and "k" not in {*facts, *given}:
        found.append(K)
    return found


def _tensors(source: Folder, container: Container, layout: Layout) -> Tensors:
    tensors = layout.tensors(source, container)
    if "threshold" not in tensors:
        return tensors
    threshold = tensors["threshold"].all()
    if (threshold < 0).any():
        raise UnsupportedArchitecture(
            f"`{container.name}`: thresholds below zero let negative activations through in "
            "circuit-tracer, which no standard form can say."
        )
    if threshold.shape != tensors["b_enc"].shape:
        spread = np.full(tensors["b_enc"].shape, threshold[0])
        tensors["threshold"] = Held(spread, tensors["threshold"].dtype)
    return tensors


def _as_defined(file: Reread, info: SaeInfo) -> "Activation":
    b_enc = file.vector("b_enc")
    if info.get("architecture") in TOPK:
        return _topk(b_enc, info.get("k"))
    if THRESHOLD in file.names:
        return _jumprelu(b_enc, file.vector(THRESHOLD))
    return plain.relu(b_enc)


def _jumprelu(b_enc: "Floats", threshold: "Floats") -> "Activation":
    def activate(product: "Floats") -> "Floats":
        before = product + b_enc
        return before * (before > threshold)

    return activate


def _topk(b_enc: "Floats", k: int) -> "Activation":
    def activate(product: "Floats") -> "Floats":
        before = product + b_enc
        least = np.partition(before, -k, axis=-1)[..., -k, None]
        return before * (before >= least)

    return activate
