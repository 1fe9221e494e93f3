"""One weight file and nothing beside it: what the tensors do not tell is asked for.

Linear layers (`encoder.weight`) lie as PyTorch keeps them, [out, in]. Community names are used both
ways round; the length of the biases tells which, except where d_in is d_sae.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from saes import reference as plain
from saes.errors import BadFact, MissingFact, NotThisFormat
from saes.formats.apollo import Apollo
from saes.formats.architectures import JUMPRELU, TOPK, is_transcoder
from saes.formats.base import (
    Facts,
    Folder,
    Given,
    Origin,
    SaeInfo,
    Source,
    Tree,
    as_facts,
    parent,
)
from saes.formats.circuit_tracer_transcoder import CircuitTracerTranscoder
from saes.formats.connor_rob_hook_z import ConnorRobHookZ
from saes.formats.deepseek_r1 import DeepSeekR1
from saes.formats.family import Family, Layout, Reading, dimensions
from saes.formats.files.containers import Container
from saes.formats.files.rereading import Reread, reopen
from saes.formats.given import K, refuse_missing
from saes.formats.neighbours import SAE_WORDS, has_tokenizer, says_sae
from saes.formats.qwen_scope import QwenScope
from saes.formats.single import TORCH, activation_of, base_of, is_leftover, opened, stated
from saes.reference import Activation, Matrix, Reference

# Families with the same tensors, which names and configurations tell apart.
OTHERS = (QwenScope(), DeepSeekR1(), ConnorRobHookZ(), Apollo(), CircuitTracerTranscoder())
NAMES = {
    "W_enc": ("W_enc", "encoder.weight"),
    "W_dec": ("W_dec", "decoder.weight"),
    "b_enc": ("b_enc", "encoder.bias"),
    "b_dec": ("b_dec", "decoder.bias", "bias", "pre_bias", "decoder_bias"),
    "b_gate": ("b_gate", "gate_bias"),
    "b_mag": ("b_mag", "mag_bias"),
    "r_mag": ("r_mag",),
    "threshold": ("threshold",),
    "W_skip": ("W_skip",),
}
# Any model may have a file of this name: it is an SAE's only where the path says so.
GENERAL = re.compile(
    r"models?|checkpoint|ckpt|last|best|pytorch|adapter|embedding|yolo(?:v|x)?|lora|vae|unet"
)
MEANINGS = {
    "standard": "ReLU: every feature above zero fires",
    "topk": "the k largest features fire",
    "abstopk": "the k features farthest from zero fire, negative ones too",
    "transcoder": "a transcoder with ReLU: it reads one place and predicts another",
    "topk_transcoder": "a transcoder whose k largest features fire",
    "skip_transcoder": "a transcoder with ReLU and a linear path beside it",
    "topk_skip_transcoder": "a transcoder whose k largest features fire, with a linear path",
}
CENTRING = MissingFact(
    "apply_b_dec_to_input",
    "Is the decoder's bias subtracted from the activation before encoding?",
    {"true": "yes: the encoder sees x - b_dec", "false": "no: the encoder sees x"},
)
NORMALISATION = MissingFact(
    "normalize_activations",
    "How were activations normalised in training?",
    {
        "none": "not at all: they are used as they are",
        "constant_norm_rescale": "each is scaled to length sqrt(d_in)",
        "layer_norm": "each is shifted to mean 0 and scaled to standard deviation 1",
    },
)
NOT_NORMALISED = replace(  # what a transcoder writes could not be brought back to another scale
    NORMALISATION, readings={"none": NORMALISATION.readings["none"]}
)
ORIENTATION = MissingFact(
    "orientation",
    "d_in and d_sae are the same, so shapes do not tell: how is W_enc stored?",
    {
        "d_in,d_sae": "x @ W_enc: the encoder's rows are input dimensions",
        "d_sae,d_in": "W_enc @ x: the encoder's rows are features, and W_dec is turned likewise",
    },
)


class Bare(Family):
    slug: ClassVar[str] = "bare"
    label: ClassVar[str] = "Bare weights"
    looks_for: ClassVar[str] = "one weight file with an encoder and a decoder"

    def find(self, tree: Tree) -> list[str]:
        likely = [name for name in tree.names if _is_likely(tree, name)]
        models = {it for it in set(map(parent, likely)) if has_tokenizer(tree, it)}
        return sorted(it for it in likely if parent(it) not in models or _is_named(it))

    def files(self, tree: Tree, where: str) -> list[str]:
        return [where]

    def read(self, source: Source, where: str, given: Given) -> Reading:
        weights = _Weights(opened(source, where, self.looks_for))
        known = {"W_enc", "W_dec", "b_dec"} <= weights.names.keys()
        if not known or not weights.d_sae or _is_known(source, where):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        layout = weights.layout(given.get("orientation"))
        shapes = layout.shapes(weights.container)
        allowed = weights.architectures(shapes)
        found = dimensions(where, shapes, allowed[0])
        facts = {
            **self.hints(source.tree, where),
            **_semantics(where, allowed, given),
            **as_facts(Origin.FILE, {**found, "dtype": layout.dtype(weights.container)}),
        }
        told = stated(where, facts, given, "W_enc" in layout.turned)
        missing = _missing(told, allowed, weights.is_ambiguous)
        info = SaeInfo(self.slug, where, told, weights.container.specs, [where], missing)
        return Reading(info, lambda folder: layout.tensors(folder, weights.container))

    def reference(self, source: Folder, where: str, given: Given) -> Reference:
        """activation(encoder(x) + b_enc), decoded; what else there is, the user has stated."""
        info = self.probe(source, where, given)
        refuse_missing(info)
        arrays = reopen(source.path(where))
        stem = os.path.commonprefix(sorted(arrays.names)).rpartition(".")
        named = {name.removeprefix("".join(stem[:2])): name for name in arrays.names}
        skip = arrays.matrix(named["W_skip"]).transposed if "W_skip" in named else None
        return plain.Plain(
            encoder=_matrix(arrays, named, ("W_enc", "encoder.weight"), info, "d_in"),
            decoder=_matrix(arrays, named, ("W_dec", "decoder.weight"), info, "d_sae"),
            b_dec=_vector(arrays, named, "b_dec"),
            activation=_activation(arrays, named, info),
            centre=info.get("apply_b_dec_to_input"),
            normalisation=info.get("normalize_activations"),
            skip=skip,
            transcodes=is_transcoder(info.get("architecture")),
        )


def _is_likely(tree: Tree, name: str) -> bool:
    is_weights = name.lower().endswith(TORCH) and not is_leftover(name)
    return is_weights and (not _is_general(name) or says_sae(tree, name))


def _is_named(name: str) -> bool:
    """By itself, so that it is no language model's, whatever lies beside it."""
    return not _is_general(name) or SAE_WORDS.search(base_of(name)) is not None


def _is_general(name: str) -> bool:
    stem = base_of(name).lower().rpartition(".")[0]
    return any(map(GENERAL.fullmatch, re.split(r"[^a-z]+", stem)))


def _is_known(source: Source, where: str) -> bool:
    """Whether names or a configuration make it another family's, for all that tensors tell."""
    for family in OTHERS:
        try:
            family.read(source, where, {})
        except NotThisFormat:
            continue
        return True
    return False


@dataclass(frozen=True)
class _Weights:
    container: Container

    @property
    def names(self) -> dict[str, str]:
        """Standard name -> stored name, whatever path all stored names have in common."""
        members = self.container.members
        shared = os.path.commonprefix(sorted(members)).rpartition(".")
        stem = "".join(shared[:2])
        found = {
            name: next((stem + it for it in stored if stem + it in members), None)
            for name, stored in NAMES.items()
        }
        return {name: stored for name, stored in found.items() if stored}

    @property
    def d_sae(self) -> int:
        names = self.names
        bias = names.get("b_enc") or names.get("b_gate")
        return (*self.container.shapes.get(bias or "", ()), 0)[0]

    @property
    def is_ambiguous(self) -> bool:
        """Whether a matrix with a community name is square."""
        return any(
            self._shape(name) == (self.d_sae, self.d_sae) and not self._is_linear(name)
            for name in ("W_enc", "W_dec")
        )

    def layout(self, orientation: str | None) -> Layout:
        turned = [name for name in ("W_enc", "W_dec") if self._is_turned(name, orientation)]
        return Layout(self.names, turned)

    def architectures(self, shapes: dict[str, tuple[int, ...]]) -> list[str]:
        """What these tensors can be; an SAE first."""
        if "b_gate" in shapes:
            return ["gated"]
        skip = "skip_" if "W_skip" in shapes else ""
        kinds = ("jumprelu_",) if "threshold" in shapes else ("", "topk_")
        transcoders = [f"{kind}{skip}transcoder" for kind in kinds]
        if skip or shapes["W_enc"][:1] != shapes["b_dec"]:
            return transcoders
        return (
            ["jumprelu"] if "threshold" in shapes else ["standard", "topk", "abstopk"]
        ) + transcoders

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.container.shapes[self.names[name]]

    def _is_linear(self, name: str) -> bool:
        return self.names[name].endswith(".weight")

    def _is_turned(self, name: str, orientation: str | None) -> bool:
        shape, axis = self._shape(name), 1 if name == "W_enc" else 0
        if self._is_linear(name):
            return True
        if shape == (self.d_sae, self.d_sae):
            return orientation == "d_sae,d_in"
        return len(shape) == 2 and shape[axis] != self.d_sae


def _semantics(where: str, allowed: Sequence[str], given: Given) -> Facts:
    """A threshold or gates tell the architecture; a transcoder never subtracts b_dec."""
    told = allowed[0] if allowed[0] in ("gated", *JUMPRELU) else None
    architecture = given.get("architecture", told)
    if architecture is not None and architecture not in allowed:
        raise BadFact(f"`{where}` can be {', '.join(allowed)}, but not {architecture}.")
    constants: dict[str, Any] = {"reshape_activations": "none"}
    if architecture and is_transcoder(architecture):
        constants["apply_b_dec_to_input"] = False
    origin = Origin.USER if "architecture" in given else Origin.FILE
    return {
        **as_facts(Origin.CATALOGUE, constants),
        **as_facts(origin, {"architecture": architecture}),
    }


def _missing(told: Facts, allowed: Sequence[str], is_ambiguous: bool) -> list[MissingFact]:
    readings = {name: MEANINGS[name] for name in allowed if name in MEANINGS}
    kind = MissingFact("architecture", "Which kind of dictionary is it?", readings)
    possible = [told["architecture"].value] if "architecture" in told else allowed
    transcodes = all(map(is_transcoder, possible))
    asked = [kind, CENTRING, NOT_NORMALISED if transcodes else NORMALISATION]
    if is_ambiguous:
        asked.append(ORIENTATION)
    if "architecture" in told and told["architecture"].value in TOPK:
        asked.append(K)
    return [fact for fact in asked if fact.name not in told]


def _matrix(
    arrays: Reread, named: dict[str, str], names: tuple[str, str], info: SaeInfo, rows: str
) -> Matrix:
    """With `rows` rows: a linear layer turned, a community matrix as its shape or the user says."""
    community, linear = names
    if linear in named and community not in named:
        return arrays.matrix(named[linear]).transposed
    matrix = arrays.matrix(named[community])
    if matrix.shape[0] == matrix.shape[1] == info.get("d_sae"):
        return matrix.transposed if info.get("orientation") == "d_sae,d_in" else matrix
    return matrix if matrix.shape[0] == info.get(rows) else matrix.transposed


def _vector(arrays: Reread, named: dict[str, str], name: str) -> plain.Floats:
    return arrays.vector(next(named[it] for it in NAMES[name] if it in named))


def _activation(arrays: Reread, named: dict[str, str], info: SaeInfo) -> Activation:
    architecture = info.get("architecture")
    if architecture == "gated":
        gates = [_vector(arrays, named, name) for name in ("b_gate", "b_mag", "r_mag")]
        return plain.gated(*gates)
    b_enc = _vector(arrays, named, "b_enc")
    if architecture in JUMPRELU:
        return plain.jumprelu(b_enc, arrays.vector(named["threshold"]))
    return activation_of(info, b_enc)
