"""Checkpoints of the older miStudio: five classes, two generations, told apart by tensor names.

Generation 1 does not centre its input and splits the decoder's bias in two; generation 2 centres.
Normalisation and k were never stored: they are asked for. A JumpReLU or a tied checkpoint does not
even show its generation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from saes.errors import BadFact, ConfigNotFound, NotThisFormat, UnsupportedArchitecture
from saes.formats.architectures import Shape, check_tensors
from saes.formats.base import Fact, Folder, Given, Origin, Sae, SaeInfo, Source
from saes.formats.containers import Container, read_safetensors
from saes.formats.given import GENERATION, NORMALISATION, K, dtype_words, with_given
from saes.formats.names import hints_from
from saes.tensors import WIDER, Diagonal, Held, LazyTensor, vector_times

PREFIX = "model."
HOOKS = ("residual", "mlp", "attention")
TOP_K_UNSAID = (
    "the file does not tell of top-k in training; if there was, give architecture topk and k"
)


@dataclass(frozen=True)
class Kind:
    """A class of the older miStudio. Axes of its tensors: i is d_in, s d_sae, o d_out."""

    architecture: str
    tensors: dict[str, str]
    optional: dict[str, str]


LINEAR = {"encoder.weight": "si", "encoder.bias": "s"}
KINDS = {
    "JumpReLUSAE": Kind(
        "jumprelu",
        {"W_enc": "si", "b_enc": "s", "b_dec": "i", "activation.log_threshold": "s"},
        {"W_dec": "is"},
    ),
    "TopKSAE": Kind("topk", {**LINEAR, "decoder.weight": "is", "b_pre": "i"}, {}),
    "SparseAutoencoder": Kind(
        "standard", {**LINEAR, "decoder_bias": "i"}, {"decoder.weight": "is", "decoder.bias": "i"}
    ),
    "SkipAutoencoder": Kind(
        "skip_transcoder",
        {**LINEAR, "decoder_bias": "i"},
        {"decoder.weight": "is", "decoder.bias": "i"},
    ),
    "Transcoder": Kind(
        "transcoder", {**LINEAR, "decoder.weight": "os", "decoder.bias": "o"}, {"b_enc_center": "i"}
    ),
}


class Checkpoint:
    """The header of one checkpoint, its tensors without the prefix."""

    def __init__(self, source: Source, file: str) -> None:
        self.container: Container = read_safetensors(source, file)
        if self.container.metadata.get("format") == "mistudio":
            raise ConfigNotFound(f"`{file}` was written with a metadata.json, which is not there.")
        prefixed = any(name.startswith(PREFIX) for name in self.container.members)
        self.prefix = PREFIX if prefixed else ""
        self.shapes = {
            name.removeprefix(self.prefix): shape for name, shape in self.container.shapes.items()
        }
        self.name = self._class()
        self.kind = KINDS[self.name]
        self._check()

    def _class(self) -> str:
        told = self.container.metadata.get("architecture")
        fitting = [
            name for name, kind in KINDS.items() if kind.tensors.keys() <= self.shapes.keys()
        ]
        if not fitting:
            raise NotThisFormat("Its tensors have none of miStudio's names.")
        return told if told in fitting else fitting[0]

    def _check(self) -> None:
        encoder = (*self.shapes.get("encoder.weight", self.shapes.get("W_enc", ())), 0, 0)
        out = (*self.shapes.get("decoder.bias", ()), 0)[0]
        d_out = out if self.name == "Transcoder" else encoder[1]
        self.dims = {"s": encoder[0], "i": encoder[1], "o": d_out}
        known = {
            **self.kind.tensors,
            **{name: it for name, it in self.kind.optional.items() if name in self.shapes},
        }
        wanted: dict[str, Shape] = {
            name: tuple(self.dims[axis] for axis in axes) for name, axes in known.items()
        }
        check_tensors(self.container.name, self.shapes, wanted)

    def has(self, name: str) -> bool:
        return name in self.shapes

    def tensor(self, source: Folder, name: str) -> LazyTensor:
        return self.container.tensor(source, self.prefix + name)

    @property
    def generation(self) -> int | None:
        """None where the tensors do not show it."""
        if self.name == "TopKSAE" or self.has("b_enc_center"):
            return 2
        if self.name == "Transcoder" or (self.has("decoder.bias") and self.has("decoder_bias")):
            return 1
        return 2 if self.has("decoder.weight") else None


def probe(source: Source, where: str, file: str, given: Given) -> SaeInfo:
    checkpoint = Checkpoint(source, file)
    facts = {**hints_from(where, source.tree.repo_id), **_facts(checkpoint, given)}
    facts = with_given(facts, given)
    missing = [fact for fact in (GENERATION, NORMALISATION) if fact.name not in facts]
    if facts["architecture"].value == "topk" and "k" not in facts:
        missing.append(K)
    return SaeInfo("mistudio", where, facts, checkpoint.container.specs, [file], missing)


def _facts(checkpoint: Checkpoint, given: Given) -> dict[str, Fact]:
    _check_given(checkpoint, given)
    dims, kind = checkpoint.dims, checkpoint.kind
    generation = checkpoint.generation or given.get("generation")
    told: dict[str, Any] = {
        "architecture": kind.architecture,
        "d_in": dims["i"],
        "d_sae": dims["s"],
        "d_out": dims["o"],
        "dtype": dtype_words(
            next(it.dtype for it in checkpoint.container.specs if len(it.shape) == 2)
        ),
        "generation": checkpoint.generation,
        **_described(checkpoint.container),
    }
    facts = {name: Fact(value, Origin.FILE) for name, value in told.items() if value is not None}
    facts |= {
        name: Fact(value, Origin.CATALOGUE)
        for name, value in _by_class(checkpoint, generation, given).items()
    }
    return facts


def _by_class(checkpoint: Checkpoint, generation: int | None, given: Given) -> dict[str, Any]:
    """What the class of the older miStudio always does."""
    told: dict[str, Any] = {"reshape_activations": "none"}
    if "transcoder" in checkpoint.kind.architecture:
        told["apply_b_dec_to_input"] = False
    elif generation is not None:
        told["apply_b_dec_to_input"] = generation == 2
    if checkpoint.name == "Transcoder":
        told["normalize_activations"] = "none"
    if checkpoint.name == "SparseAutoencoder" and "architecture" not in given:
        told["warning"] = TOP_K_UNSAID
    return told


def _check_given(checkpoint: Checkpoint, given: Given) -> None:
    shown = checkpoint.generation
    if shown is not None and given.get("generation", shown) != shown:
        raise BadFact(f"The tensors of `{checkpoint.container.name}` show generation {shown}.")
    stated, own = given.get("architecture"), checkpoint.kind.architecture
    if stated not in (None, own) and (own, stated) != ("standard", "topk"):
        raise BadFact(f"`{checkpoint.container.name}` holds a {own} SAE, not {stated}.")


def _described(container: Container) -> dict[str, Any]:
    layer, hook = container.metadata.get("layer_idx", ""), container.metadata.get("hook_type")
    return {
        "layer": int(layer) if layer.isascii() and layer.isdigit() and len(layer) < 6 else None,
        "hook_type": hook if hook in HOOKS else None,
    }


def load(source: Folder, file: str, info: SaeInfo) -> Sae:
    checkpoint = Checkpoint(source, file)
    if checkpoint.name == "JumpReLUSAE":
        return Sae(info, _jumprelu(source, checkpoint))
    tensors = _linear(source, checkpoint)
    if checkpoint.name == "Transcoder" and checkpoint.has("b_enc_center"):
        tensors["b_enc"] = _centred(tensors, checkpoint.tensor(source, "b_enc_center"))
    if checkpoint.name == "SkipAutoencoder":
        tensors = _skipping(tensors, info)
    return Sae(info, tensors)


def _linear(source: Folder, checkpoint: Checkpoint) -> dict[str, LazyTensor]:
    encoder = checkpoint.tensor(source, "encoder.weight")
    decoder = (
        checkpoint.tensor(source, "decoder.weight").transposed()
        if checkpoint.has("decoder.weight")
        else encoder
    )
    biases = [
        checkpoint.tensor(source, name)
        for name in ("decoder_bias", "b_pre", "decoder.bias")
        if checkpoint.has(name)
    ]
    return {
        "W_enc": encoder.transposed(),
        "b_enc": checkpoint.tensor(source, "encoder.bias"),
        "W_dec": decoder,
        "b_dec": biases[0] if len(biases) == 1 else biases[0].plus(biases[1]),
    }


def _jumprelu(source: Folder, checkpoint: Checkpoint) -> dict[str, LazyTensor]:
    encoder = checkpoint.tensor(source, "W_enc")
    logarithm = checkpoint.tensor(source, "activation.log_threshold")
    return {
        "W_enc": encoder.transposed(),
        "b_enc": checkpoint.tensor(source, "b_enc"),
        "W_dec": checkpoint.tensor(source, "W_dec").transposed()
        if checkpoint.has("W_dec")
        else encoder,
        "b_dec": checkpoint.tensor(source, "b_dec"),
        "threshold": logarithm.mapped(lambda values, index: np.exp(values)),
    }


def _centred(tensors: dict[str, LazyTensor], centre: LazyTensor) -> LazyTensor:
    """(x - centre) @ W + b = x @ W + (b - centre @ W): a transcoder has no other place for it."""
    b_enc, encoder = tensors["b_enc"], tensors["W_enc"]
    return Held(b_enc.all() - vector_times(centre.all(), encoder), WIDER[b_enc.dtype])


def _skipping(tensors: dict[str, LazyTensor], info: SaeInfo) -> dict[str, LazyTensor]:
    """skip_scale was never stored; every training there ever was used 1."""
    if info.get("normalize_activations") != "none":
        raise UnsupportedArchitecture(
            "A skip autoencoder on normalised activations has no standard form."
        )
    if info.get("generation") == 2:
        tensors = {**tensors, "b_enc": _centred(tensors, tensors["b_dec"])}
    encoder = tensors["W_enc"]
    return {**tensors, "W_skip": Diagonal(1.0, encoder.shape[0], encoder.dtype)}
