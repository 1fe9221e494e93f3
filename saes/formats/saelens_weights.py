"""What SAELens has not folded into the weights yet: factors, whitening, norms, log thresholds.

Each is folded as SAELens itself does at the end of a training, and in the same order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from saes.errors import BadFact, BrokenFile, UnsupportedArchitecture
from saes.formats.architectures import check_tensors, is_transcoder
from saes.formats.base import Fact, Facts, Folder, Origin, Sae, SaeInfo, Source, inside
from saes.formats.configs import Config, read_config
from saes.formats.files.containers import Container, read_safetensors
from saes.formats.saelens_config import BATCH_TOPK
from saes.formats.saelens_whitening import whitened, whitening_shapes
from saes.tensors import WIDER, Held, LazyTensor, row_norms

SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"
FINETUNING = "scaling_factor"
LARGEST_FACTOR = 1e30  # a number beyond it, or its inverse, would leave nothing of the weights
UNKNOWN = (
    "activations were scaled in training by a factor that no file tells; "
    "if it is not folded in already, features fire wrongly: give norm_scaling_factor",
    "activations were whitened in training by a matrix that no file tells; "
    "if it is not folded in already, features fire wrongly",
)
Tensors = dict[str, LazyTensor]


@dataclass(frozen=True)
class Training:
    """What a training checkpoint keeps beside its weights."""

    scaler: Config | None = None
    whitening: Container | None = None

    @property
    def factor(self) -> float | None:
        if self.scaler is None:
            return None
        factor = self.scaler.number("scaling_factor")
        if factor is not None and factor <= 0:
            raise self.scaler.wrong("scaling_factor", "above zero")
        return factor


def read_training(source: Source, where: str) -> Training:
    scaler, whitening = inside(where, SCALER), inside(where, WHITENING)
    names = source.tree.names
    read = Training(
        read_config(source, scaler) if scaler in names else None,
        read_safetensors(source, whitening) if whitening in names else None,
    )
    if read.scaler is not None and read.scaler.flag("has_whitening") and read.whitening is None:
        raise BrokenFile(f"`{scaler}` tells of whitening, but `{WHITENING}` is not beside it.")
    return read


def unfolded(facts: Facts, training: Training, listed: float | None) -> dict[str, Fact]:
    """The factor still missing from the weights, or a warning where nobody tells it.

    SAELens itself does nothing about these normalisations at run time.
    """
    normalisation = facts["normalize_activations"].value
    if normalisation == "covariance_whitening":
        if training.whitening is None:
            return {"warning": Fact(UNKNOWN[1], Origin.CATALOGUE)}
        check_tensors(training.whitening.name, training.whitening.shapes, whitening_shapes(facts))
        return {}
    if normalisation != "expected_average_only_in" or "norm_scaling_factor" in facts:
        return {}
    if training.factor is not None:
        return {"norm_scaling_factor": Fact(training.factor, Origin.FILE)}
    if listed is not None:
        return {"norm_scaling_factor": Fact(float(listed), Origin.CATALOGUE)}
    return {"warning": Fact(UNKNOWN[0], Origin.CATALOGUE)}


def released_shapes(container: Container, cfg: Config) -> Mapping[str, tuple[int, ...]]:
    """Shapes under the names that a released SAE has: training checkpoints differ in a few."""
    shapes = dict(container.shapes)
    width = shapes.get("W_dec", (0,))[:1]
    if cfg.text("architecture") in BATCH_TOPK and "topk_threshold" in shapes:
        if shapes.pop("topk_threshold") not in ((), (1,)):
            raise BrokenFile(f"`{container.name}`: topk_threshold should be one number.")
        shapes.setdefault("threshold", width)
    if "log_threshold" in shapes and "threshold" not in shapes:
        shapes["threshold"] = shapes.pop("log_threshold")
    if shapes.get(FINETUNING) == width:
        del shapes[FINETUNING]
    return shapes


def released(
    source: Folder, container: Container, cfg: Config, info: SaeInfo, training: Training
) -> Sae:
    """The SAE as SAELens would release it: nothing left to fold."""
    tensors = _named(source, container, cfg)
    rescaled = _is_rescaled(cfg, info)
    facts = dict(info.facts)
    if "norm_scaling_factor" in facts:
        tensors = _times(tensors, facts, rescaled)
        facts |= _after_factor(facts)
    elif training.whitening and facts["normalize_activations"].value == "covariance_whitening":
        tensors = whitened(
            _norms_folded(tensors) if rescaled else tensors, source, training.whitening, facts
        )
        facts |= _after_whitening(facts)
        rescaled = False
    if "topk_threshold" in tensors:
        tensors = _with_one_threshold(_norms_folded(tensors) if rescaled else tensors)
    return Sae(replace(info, facts=facts), tensors)


def _named(source: Folder, container: Container, cfg: Config) -> Tensors:
    tensors = {name: container.tensor(source, name) for name in container.members}
    if FINETUNING in tensors:
        tensors = _finetuned(tensors, cfg)
    if "log_threshold" in tensors:
        tensors["threshold"] = tensors.pop("log_threshold").mapped(
            lambda values, index: np.exp(values)
        )
    return tensors


def _finetuned(tensors: Tensors, cfg: Config) -> Tensors:
    """v5 multiplied the activations by it before decoding: the same as scaling W_dec's rows."""
    factor = tensors.pop(FINETUNING).all()
    if cfg.flag("finetuning_scaling_factor"):
        return {**tensors, "W_dec": tensors["W_dec"].scaled(factor)}
    if not np.allclose(factor, 1):
        raise BrokenFile(
            f"`{cfg.name}` does not say that scaling_factor is used (finetuning_scaling_factor)."
        )
    return tensors


def _is_rescaled(cfg: Config, info: SaeInfo) -> bool:
    """Whether activations are weighed by decoder norm. Training configs mean yes by silence."""
    if cfg.text("architecture") in BATCH_TOPK:
        return cfg.flag("rescale_acts_by_decoder_norm") is not False
    return info.get("rescale_acts_by_decoder_norm") is True


def refuse_factor(name: str, facts: Facts) -> None:
    """A factor that the user states."""
    if facts["normalize_activations"].value != "expected_average_only_in":
        raise BadFact(
            f"`{name}`: norm_scaling_factor belongs to normalize_activations "
            "expected_average_only_in."
        )
    architecture = facts["architecture"].value if "architecture" in facts else ""
    reason = _unfoldable(architecture, facts["norm_scaling_factor"].value)
    if reason:
        raise BadFact(f"`{name}`: {reason}")


def _unfoldable(architecture: str, factor: float) -> str | None:
    if is_transcoder(architecture) or architecture == "temporal":
        return f"The norm_scaling_factor of a {architecture} SAE cannot be folded."
    if not 1 / LARGEST_FACTOR < factor < LARGEST_FACTOR:
        return f"A norm_scaling_factor of {factor:g} cannot be folded."
    return None


def _times(tensors: Tensors, facts: Facts, rescaled: bool) -> Tensors:
    architecture, factor = facts["architecture"].value, float(facts["norm_scaling_factor"].value)
    reason = _unfoldable(architecture, factor)
    if reason:
        raise UnsupportedArchitecture(reason)
    divided = ["b_dec"] if architecture == "matching_pursuit" else ["W_dec", "b_dec"]
    if rescaled and "topk_threshold" in tensors:
        divided.append("topk_threshold")  # it is weighed by the norms just divided
    folded = {name: tensors[name].mapped(lambda it, index: it / factor) for name in divided}
    if "W_enc" in tensors:
        folded["W_enc"] = tensors["W_enc"].scaled(factor)
    return {**tensors, **folded}


def _after_factor(facts: Facts) -> dict[str, Fact]:
    factor = facts["norm_scaling_factor"]
    changed = {"normalize_activations": Fact("none", factor.origin)}
    if "residual_threshold" in facts:  # of matching pursuit: a length of activations
        least = facts["residual_threshold"]
        changed["residual_threshold"] = Fact(least.value / float(factor.value), least.origin)
    return changed


def _after_whitening(facts: Facts) -> dict[str, Fact]:
    changed = {"normalize_activations": Fact("none", Origin.FILE)}
    if "rescale_acts_by_decoder_norm" in facts:
        changed["rescale_acts_by_decoder_norm"] = Fact(False, Origin.FILE)
    return changed


def _norms_folded(tensors: Tensors) -> Tensors:
    norms = row_norms(tensors["W_dec"])
    return {
        **tensors,
        "W_enc": tensors["W_enc"].scaled(norms, axis=1),
        "b_enc": tensors["b_enc"].scaled(norms),
        "W_dec": tensors["W_dec"].scaled(1 / np.where(norms == 0, 1, norms)),
    }


def _with_one_threshold(tensors: Tensors) -> Tensors:
    kept = {name: it for name, it in tensors.items() if name != "topk_threshold"}
    threshold, b_enc = float(tensors["topk_threshold"].all()[0]), tensors["b_enc"]
    return {**kept, "threshold": Held(np.full(b_enc.shape, threshold), WIDER[b_enc.dtype])}
