"""Checkpoints of the older miStudio: five classes, two generations, told apart by tensor names.

Generation 1 does not centre its input and splits the decoder's bias in two; generation 2 centres.
Normalisation and k were never stored: they are asked for. A JumpReLU or a tied checkpoint does not
even show its generation.
"""

from collections.abc import Sequence
from typing import Any

from saes.errors import BrokenFile, ConfigNotFound, MissingFact, NotThisFormat
from saes.formats.architectures import NORMALISATIONS, TOPK, Shape, check_tensors
from saes.formats.base import (
    Fact,
    Facts,
    Folder,
    Given,
    Origin,
    SaeInfo,
    Source,
    as_facts,
)
from saes.formats.files.containers import Container
from saes.formats.files.opening import open_container
from saes.formats.given import GENERATION, NORMALISATION, K, dtype_words, with_given
from saes.formats.mistudio_beside import CHECKPOINT, CLASSES, read_beside
from saes.formats.mistudio_classes import KINDS, TRANSCODERS, WITH_TOPK
from saes.formats.mistudio_given import TURNED, Possible, means_topk, possible, refuse_unfit
from saes.formats.names import hints_from
from saes.tensors import LazyTensor

PREFIX = "model."
HOOKS = {"residual": "hook_resid_post", "mlp": "hook_mlp_out", "attention": "hook_attn_out"}
TOP_K_UNSAID = (
    "the file does not tell of top-k in training; if there was, give architecture {} and k"
)
CENTRING = MissingFact(
    "apply_b_dec_to_input",
    "It was converted from another format, without saying what happened to its input. "
    "Is b_dec subtracted from it?",
    {
        "true": "yes: as SAELens does unless its cfg.json says otherwise",
        "false": "no: the encoder sees the activation itself",
    },
)
CONVERTED = MissingFact(
    NORMALISATION.name,
    "It was converted from another format. How did the original normalise activations?",
    {**NORMALISATION.readings, "none": "not at all, as most do"},
)


class Checkpoint:
    """The header of one checkpoint, its tensors without the prefix, and what lies beside it."""

    def __init__(self, source: Source, file: str, stated: str | None = None) -> None:
        self.container: Container = open_container(source, file)
        if self.container.metadata.get("format") == "mistudio":
            raise ConfigNotFound(f"`{file}` was written with a metadata.json, which is not there.")
        prefixed = any(name.startswith(PREFIX) for name in self.container.members)
        self.prefix = PREFIX if prefixed else ""
        self.shapes = {
            name.removeprefix(self.prefix): shape for name, shape in self.container.shapes.items()
        }
        fitting = self._fitting(file)
        self.beside = read_beside(source, file)
        self.name = self._class(fitting, stated)
        self.kind = KINDS[self.name]
        self._check()

    def _fitting(self, file: str) -> list[str]:
        """Classes that the tensors can belong to. Two linear layers alone may be anybody's."""
        fitting = [
            name for name, kind in KINDS.items() if kind.tensors.keys() <= self.shapes.keys()
        ]
        ours = self.prefix or file.endswith(CHECKPOINT) or self.has("b_enc_center")
        if fitting == ["Transcoder"] and not (ours or self._told in KINDS):
            raise NotThisFormat("Two linear layers alone do not tell that they are miStudio's.")
        if not fitting and self.prefix and self.has("decoder_bias"):
            raise BrokenFile(f"`{file}` lacks tensors that each of miStudio's classes has.")
        if not fitting:
            raise NotThisFormat("Its tensors have none of miStudio's names.")
        return fitting

    @property
    def _told(self) -> str | None:
        return self.container.metadata.get("architecture")

    def _class(self, fitting: list[str], stated: str | None) -> str:
        """The header's word, or the word beside it; else the user's among those that fit."""
        word = self.beside.architecture
        beside = CLASSES[word] if word else None
        if beside and beside not in fitting and beside != "TopKSAE":
            raise BrokenFile(
                f"`{self.beside.config.name}` tells of a {word} SAE, the tensors are another's."
            )
        users = [it for it in fitting if self._is_whole(it) and stated in KINDS[it].architectures]
        return next(name for name in (self._told, beside, *users, *fitting) if name in fitting)

    def _is_whole(self, name: str) -> bool:
        kind = KINDS[name]
        return self.shapes.keys() <= kind.tensors.keys() | kind.optional.keys()

    def _check(self) -> None:
        encoder = (*self.shapes.get("encoder.weight", self.shapes.get("W_enc", ())), 0, 0)
        out = (*self.shapes.get("decoder.bias", ()), 0)[0]
        d_out = out if self.name == "Transcoder" else encoder[1]
        self.dims = {"s": encoder[0], "i": encoder[1], "o": d_out}
        known = {
            **self.kind.tensors,
            **{name: it for name, it in self.kind.optional.items() if self._wants(name)},
        }
        wanted: dict[str, Shape] = {
            name: tuple(self.dims[axis] for axis in axes) for name, axes in known.items()
        }
        check_tensors(self.container.name, self.shapes, wanted)
        self.beside.check(self.dims)

    def _wants(self, name: str) -> bool:
        """The bias and the weight of one layer come together: a tied checkpoint has neither."""
        return self.has(name) or (name == "decoder.weight" and self.has("decoder.bias"))

    def has(self, name: str) -> bool:
        return name in self.shapes

    def tensor(self, source: Folder, name: str) -> LazyTensor:
        return self.container.tensor(source, self.prefix + name)

    @property
    def generation(self) -> int | None:
        """None where nothing shows it: the older converter wrote like generation 1."""
        if self.beside.is_converted:
            return None
        if self.name == "TopKSAE" or self.has("b_enc_center") or self.beside.is_second:
            return 2
        if self.name == "Transcoder" or (self.has("decoder.bias") and self.has("decoder_bias")):
            return 1
        return 2 if self.has("decoder.weight") else None

    def can_topk(self, generation: int | None) -> bool:
        """Generation 2 ignored k outside TopKSAE; a file made by hand names no class."""
        return generation != 2 or self._told not in KINDS


def probe(source: Source, where: str, file: str, given: Given) -> SaeInfo:
    checkpoint = Checkpoint(source, file, given.get("architecture"))
    _check_k(checkpoint)
    hints = hints_from(where, source.tree.repo_id)
    facts = with_given({**hints, **_facts(checkpoint, given)}, given)
    refuse_unfit(file, given, _possible(checkpoint, facts))
    facts = {**hook_facts(facts), **facts}
    missing = _missing(checkpoint, facts)
    files = [file, *checkpoint.beside.files]
    return SaeInfo("mistudio", where, facts, checkpoint.container.specs, files, missing)


def _missing(checkpoint: Checkpoint, facts: Facts) -> list[MissingFact]:
    converted = checkpoint.beside.is_converted
    asked = (CENTRING, CONVERTED) if converted else (GENERATION, NORMALISATION)
    missing = [fact for fact in asked if fact.name not in facts]
    if facts["architecture"].value in TOPK and "k" not in facts:
        missing.append(K)
    return missing


def _facts(checkpoint: Checkpoint, given: Given) -> dict[str, Fact]:
    dims = checkpoint.dims
    specs = checkpoint.container.specs
    architecture = _architecture(checkpoint, given)
    beside = checkpoint.beside.told(dims["s"])
    if architecture not in TOPK:
        del beside["k"]
    told: dict[str, Any] = {
        "architecture": architecture,
        "d_in": dims["i"],
        "d_sae": dims["s"],
        "d_out": dims["o"],
        "dtype": dtype_words(next(it.dtype for it in specs if len(it.shape) == 2)),
        "generation": checkpoint.generation,
    }
    return {
        **as_facts(Origin.FILE, beside),
        **as_facts(Origin.FILE, {**told, **_described(checkpoint.container)}),
        **as_facts(Origin.CATALOGUE, _by_class(checkpoint, given)),
    }


def _architecture(checkpoint: Checkpoint, given: Given) -> str:
    """Of a k that a file tells, generation 2 took no notice."""
    own = checkpoint.kind.architecture
    told = checkpoint.beside.is_topk and checkpoint.generation != 2
    stated = means_topk(given) and checkpoint.can_topk(_generation(checkpoint, given))
    is_topk = stated or (told and "architecture" not in given)
    return WITH_TOPK.get(own, own) if is_topk else own


def _generation(checkpoint: Checkpoint, given: Given) -> int | None:
    return checkpoint.generation or given.get("generation")


def _by_class(checkpoint: Checkpoint, given: Given) -> dict[str, Any]:
    """What the class of the older miStudio always does."""
    generation = _generation(checkpoint, given)
    told: dict[str, Any] = {"reshape_activations": "none"}
    if "transcoder" in checkpoint.kind.architecture:
        told["apply_b_dec_to_input"] = False
    elif generation is not None and not checkpoint.beside.is_converted:
        told["apply_b_dec_to_input"] = generation == 2
    if checkpoint.name == "Transcoder":
        told["normalize_activations"] = "none"
    topk = WITH_TOPK.get(checkpoint.kind.architecture)
    unsaid = not checkpoint.beside.files and not {"architecture", "k"} & given.keys()
    if topk and generation != 2 and unsaid:
        told["warning"] = TOP_K_UNSAID.format(topk)
    return told


def _possible(checkpoint: Checkpoint, facts: Facts) -> Possible:
    """What can be stated, by what the tensors and the header show."""
    shown, converted = checkpoint.generation, checkpoint.beside.is_converted
    generation = facts["generation"].value if "generation" in facts else None
    own = checkpoint.kind.architectures
    return {
        "architecture": own if checkpoint.can_topk(generation) else own[:1],
        "generation": () if converted else (shown,) if shown else (1, 2),
        "normalize_activations": _normalisations(checkpoint),
        "orientation": (TURNED,),
        **possible(facts, folded=checkpoint.name == "SkipAutoencoder" and generation == 2),
    }


def _normalisations(checkpoint: Checkpoint) -> Sequence[str]:
    """The other formats had more of them; only the whitening would be a tensor of its own."""
    if checkpoint.name == "Transcoder":
        return ("none",)
    if checkpoint.beside.is_converted:
        return [it for it in NORMALISATIONS if it != "covariance_whitening"]
    return list(NORMALISATION.readings)


def _check_k(checkpoint: Checkpoint) -> None:
    d_sae, beside = checkpoint.dims["s"], checkpoint.beside
    k = beside.k(d_sae) or 1
    if k > d_sae:
        raise BrokenFile(f"`{beside.config.name}`: k is {k:,}, there are {d_sae:,} features.")


def hook_facts(facts: Facts) -> dict[str, Fact]:
    """The older miStudio read the outputs of a layer and of its modules."""
    site, layer = (facts[it].value if it in facts else None for it in ("hook_type", "layer"))
    transcodes = facts["architecture"].value in TRANSCODERS
    if site not in HOOKS or layer is None or transcodes:
        return {}
    return as_facts(Origin.CATALOGUE, {"hook_name": f"blocks.{layer}.{HOOKS[site]}"})


def _described(container: Container) -> dict[str, Any]:
    layer, hook = container.metadata.get("layer_idx", ""), container.metadata.get("hook_type")
    return {
        "layer": int(layer) if layer.isascii() and layer.isdigit() and len(layer) < 6 else None,
        "hook_type": hook if hook in HOOKS else None,
    }
