"""What SAELens has not folded into the weights: factors, batch top-k, log thresholds."""

from collections.abc import Mapping

import numpy as np

from saes.errors import BrokenFile, UnsupportedArchitecture
from saes.formats.architectures import is_transcoder
from saes.formats.base import Fact, Folder, Given, Origin, Sae, SaeInfo, Source
from saes.formats.configs import Config, read_config
from saes.formats.containers import Container
from saes.tensors import Held, LazyTensor, row_norms

SCALER = "activation_scaler.json"
FINETUNING = "scaling_factor"
TRAINED_ON_SCALED = ("expected_average_only_in", "covariance_whitening")
UNKNOWN_FACTOR = (
    "activations were scaled in training by a factor that no file tells; "
    "if it is not folded in already, features fire wrongly: give norm_scaling_factor"
)
Tensors = dict[str, LazyTensor]


def read_scaler(source: Source, name: str) -> Config:
    return read_config(source, name)


def unfolded(cfg: Config, scaler: Config | None, given: Given) -> dict[str, Fact]:
    """The factor still missing from the weights, or a warning where nobody tells it.

    SAELens itself does nothing about expected_average_only_in at run time.
    """
    if cfg.values.get("normalize_activations") not in TRAINED_ON_SCALED:
        return {}
    if scaler is not None and scaler.flag("has_whitening"):
        raise UnsupportedArchitecture(f"`{scaler.name}`: whitened activations cannot be converted.")
    factor = scaler.number("scaling_factor") if scaler is not None else None
    if factor is not None:
        if factor <= 0 and scaler is not None:
            raise scaler.wrong("scaling_factor", "above zero")
        return {"norm_scaling_factor": Fact(factor, Origin.FILE)}
    if "norm_scaling_factor" in given:
        return {}
    return {"warning": Fact(UNKNOWN_FACTOR, Origin.CATALOGUE)}


def as_released(container: Container, cfg: Config) -> Mapping[str, tuple[int, ...]]:
    """Shapes under the names that a released SAE has: training checkpoints differ in a few."""
    shapes = dict(container.shapes)
    width = shapes.get("b_enc", (0,))
    if (
        cfg.text("architecture") in ("batchtopk", "matryoshka_batchtopk")
        and "topk_threshold" in shapes
    ):
        if shapes.pop("topk_threshold") not in ((), (1,)):
            raise BrokenFile(f"`{container.name}`: topk_threshold should be one number.")
        shapes.setdefault("threshold", width)
    if "log_threshold" in shapes and "threshold" not in shapes:
        shapes["threshold"] = shapes.pop("log_threshold")
    if FINETUNING in shapes and shapes[FINETUNING] == width:
        del shapes[FINETUNING]
    return shapes


def standard(
    source: Folder, container: Container, cfg: Config, info: SaeInfo, scaler: Config | None
) -> Sae:
    tensors = {name: container.tensor(source, name) for name in container.members}
    if FINETUNING in tensors:
        tensors = _finetuned(tensors, cfg)
    if "log_threshold" in tensors:
        tensors["threshold"] = tensors.pop("log_threshold").mapped(
            lambda values, index: np.exp(values)
        )
    if "topk_threshold" in tensors:
        tensors = _batch_topk(
            tensors, rescaled=cfg.flag("rescale_acts_by_decoder_norm") is not False
        )
    factor = info.get("norm_scaling_factor")
    if factor is None:
        return Sae(info, tensors)
    return Sae(_folded_info(info), _times(tensors, float(factor), info))


def _finetuned(tensors: Tensors, cfg: Config) -> Tensors:
    """v5 multiplied the activations by it before decoding: the same as scaling W_dec's rows."""
    factor = tensors.pop(FINETUNING).all()
    if (factor == 1).all():
        return tensors
    if not cfg.flag("finetuning_scaling_factor"):
        raise BrokenFile(
            f"`{cfg.name}` does not say that scaling_factor is used (finetuning_scaling_factor)."
        )
    return {**tensors, "W_dec": tensors["W_dec"].scaled(factor)}


def _batch_topk(tensors: Tensors, rescaled: bool) -> Tensors:
    """What SAELens releases: decoder norms folded, one threshold for all."""
    threshold = float(tensors.pop("topk_threshold").all()[0])
    encoder = tensors["W_enc"]
    if rescaled:
        norms = row_norms(tensors["W_dec"])
        tensors["W_enc"] = encoder.scaled(norms, axis=1)
        tensors["b_enc"] = tensors["b_enc"].scaled(norms)
        tensors["W_dec"] = tensors["W_dec"].scaled(1 / np.where(norms == 0, 1, norms))
    return {**tensors, "threshold": Held(np.full(encoder.shape[1], threshold), "F64")}


def _times(tensors: Tensors, factor: float, info: SaeInfo) -> Tensors:
    if info.get("normalize_activations") != "expected_average_only_in":
        raise UnsupportedArchitecture(
            "norm_scaling_factor belongs to normalize_activations expected_average_only_in."
        )
    if is_transcoder(info.get("architecture")):
        raise UnsupportedArchitecture(
            "A transcoder's norm_scaling_factor cannot be folded: inputs and outputs differ."
        )
    folded = {"W_enc": factor, "W_dec": 1 / factor, "b_dec": 1 / factor}
    return {**tensors, **{name: tensors[name].scaled(by) for name, by in folded.items()}}


def _folded_info(info: SaeInfo) -> SaeInfo:
    origin = info.facts["norm_scaling_factor"].origin
    facts = {**info.facts, "normalize_activations": Fact("none", origin)}
    return SaeInfo(info.format, info.where, facts, info.tensors, info.files)
