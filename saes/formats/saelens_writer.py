"""Writing what SAELens 6 loads: nothing for it to guess, to default or to migrate.

SAELens casts every tensor to the one dtype that cfg.json names, so that is the narrowest one that
loses nothing; matrices keep the dtype they have.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saes.errors import CannotRepresent
from saes.formats.architectures import NORMALISATIONS, is_transcoder
from saes.formats.base import Origin, Sae, SaeInfo
from saes.formats.files.writing import write_json, write_safetensors
from saes.formats.given import DTYPES
from saes.formats.saelens_config import (
    ARCHITECTURES,
    DESCRIBED,
    OWN_KEYS,
    RESHAPES,
    TEMPORAL_NORMALISATIONS,
)
from saes.local_paths import holds_local, without_local
from saes.progress import Reporter
from saes.tensors import LazyTensor, to_bits, to_floats

VERSION = "6.54.12"  # whose rules cfg.json follows; without one, SAELens takes it for version 5


def save(sae: Sae, weights: Path, cfg: Path, progress: Reporter) -> list[Path]:
    _refuse_misfit(sae.info)
    tensors = _narrowed(sae.tensors)
    config = _config(sae, tensors)
    write_safetensors(weights, tensors, {}, progress)
    write_json(cfg, config)
    return [weights, cfg]


def _refuse_misfit(info: SaeInfo) -> None:
    architecture, hook = info.get("architecture"), info.get("hook_name")
    if architecture not in ARCHITECTURES:
        raise CannotRepresent(f"SAELens has no place for the architecture {architecture}.")
    reshape = info.get("reshape_activations", "none")
    if is_transcoder(architecture) and info.get("apply_b_dec_to_input"):
        raise _cannot("apply_b_dec_to_input", "its transcoders never subtract b_dec")
    words = TEMPORAL_NORMALISATIONS if architecture == "temporal" else NORMALISATIONS
    if info.get("normalize_activations") not in words:
        raise _cannot("normalize_activations", "it knows only " + ", ".join(words))
    if info.get("normalize_activations") != "none" and "norm_scaling_factor" in info.facts:
        raise _cannot("norm_scaling_factor", "it would have to be folded into the weights")
    if reshape not in RESHAPES:
        raise _cannot("reshape_activations", "it knows only " + ", ".join(RESHAPES))
    if reshape == "hook_z" and hook is not None and not hook.endswith("_z"):
        raise _cannot("reshape_activations", "it reshapes only where hook_name ends in _z")


def _cannot(field: str, why: str) -> CannotRepresent:
    return CannotRepresent(f"SAELens cannot hold this {field}: {why}.")


def _narrowed(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Vectors in the dtype of the matrices, where that changes no number."""
    dtype = _common(it.dtype for it in tensors.values() if len(it.shape) == 2)
    return {name: it.cast(dtype) if _fits(it, dtype) else it for name, it in tensors.items()}


def _fits(tensor: LazyTensor, dtype: str) -> bool:
    if len(tensor.shape) != 1:
        return False
    values = tensor.all()
    return np.array_equal(to_floats(to_bits(values, dtype), dtype), values, equal_nan=True)


def _common(dtypes: Iterable[str]) -> str:
    """The narrowest dtype that holds numbers of all of these."""
    found = set(dtypes)
    if len(found) == 1:
        return found.pop()
    return "F64" if "F64" in found else "F32"


def _config(sae: Sae, tensors: Mapping[str, LazyTensor]) -> dict[str, Any]:
    info, architecture = sae.info, sae.info.get("architecture")
    width = ("d_in", "d_sae", "d_out") if is_transcoder(architecture) else ("d_in", "d_sae")
    own = OWN_KEYS.get(architecture, ())
    return {
        "architecture": architecture,
        **{name: info.get(name) for name in width},
        "dtype": DTYPES[_common(it.dtype for it in tensors.values())],
        "device": "cpu",
        "apply_b_dec_to_input": info.get("apply_b_dec_to_input"),
        "normalize_activations": info.get("normalize_activations"),
        "reshape_activations": info.get("reshape_activations", "none"),
        **{name: info.get(name) for name in own if name in info.facts},
        "metadata": _metadata(sae),
    }


def _metadata(sae: Sae) -> dict[str, Any]:
    """SAELens keeps keys that it does not know, so ours travel along. A guess is no metadata, and
    paths of this machine are nobody else's business."""
    facts = {
        name: fact for name, fact in sorted(sae.info.facts.items()) if not holds_local(fact.value)
    }
    stated = {
        name: facts[name].value
        for name in DESCRIBED
        if name in facts and facts[name].origin != Origin.INFERRED
    }
    told = {name: {"value": it.value, "origin": it.origin} for name, it in facts.items()}
    return {
        "sae_lens_version": VERSION,
        "sae_lens_training_version": None,
        **stated,
        "mistudio": {"source": without_local(dict(sae.provenance)), "facts": told},
    }
