"""Writing what dictionary_learning's load_dictionary takes: ae.pt and config.json.

Its classes hold float32 and compute in one way each: what none of them computes is refused.
"""

from pathlib import Path
from typing import Any

from saes.errors import CannotRepresent
from saes.formats import dictionary_learning_classes as classes
from saes.formats.base import Sae, SaeInfo
from saes.formats.dictionary_learning_classes import DictClass
from saes.formats.dictionary_learning_sites import submodule_name
from saes.formats.files.pt_writing import Number, Written, write_pt
from saes.formats.files.writing import write_json
from saes.progress import Reporter
from saes.tensors import LazyTensor, to_floats

TRAINERS = {
    "AutoEncoder": "StandardTrainer",
    "AutoEncoderNew": "StandardTrainer",
    "GatedAutoEncoder": "GatedSAETrainer",
    "AutoEncoderTopK": "TopKTrainer",
    "BatchTopKSAE": "BatchTopKTrainer",
    "JumpReluAutoEncoder": "JumpReluTrainer",
}


def save(sae: Sae, target: Path, progress: Reporter) -> list[Path]:
    _refuse_misfit(sae)
    chosen = _class_for(sae)
    weights, config = target / "ae.pt", target / "config.json"
    write_pt(weights, _stored(sae, chosen), progress)
    write_json(config, _config(sae.info, chosen))
    return [weights, config]


def _refuse_misfit(sae: Sae) -> None:
    for fact in ("normalize_activations", "reshape_activations"):
        if sae.info.get(fact, "none") != "none":
            raise _cannot(fact, "it knows only none")
    if sae.info.get("rescale_acts_by_decoder_norm"):
        raise _cannot("rescale_acts_by_decoder_norm", "its top-k does not weigh activations")
    if any(it.dtype == "F64" for it in sae.tensors.values()):
        raise _cannot("dtype", "its classes hold float32, and float64 has more digits")


def _cannot(field: str, why: str) -> CannotRepresent:
    return CannotRepresent(f"dictionary_learning cannot hold this {field}: {why}.")


def _class_for(sae: Sae) -> DictClass:
    architecture, centred = sae.info.get("architecture"), sae.info.get("apply_b_dec_to_input")
    if architecture == "standard":
        return classes.AUTO_ENCODER if centred else classes.AUTO_ENCODER_NEW
    if architecture == "jumprelu" and not centred:
        return classes.JUMPRELU
    if not centred:
        raise _cannot("apply_b_dec_to_input", f"its {architecture} class always subtracts b_dec")
    if architecture == "jumprelu":
        if _one_threshold(sae.tensors["threshold"]) is None:
            told = "where b_dec is subtracted, it has one threshold for all features"
            raise _cannot("apply_b_dec_to_input", told)
        return classes.BATCH_TOPK
    return classes.GATED_AUTO_ENCODER if architecture == "gated" else classes.AUTO_ENCODER_TOPK


def _one_threshold(threshold: LazyTensor) -> float | None:
    bits = threshold.block(slice(0, threshold.shape[0]))
    return float(to_floats(bits[:1], threshold.dtype)[0]) if (bits == bits[0]).all() else None


def _stored(sae: Sae, chosen: DictClass) -> dict[str, Written]:
    turned, tensors = chosen.layout.turned, sae.tensors
    stored: dict[str, Written] = {
        name: tensors[ours].transposed() if ours in turned else tensors[ours]
        for ours, name in chosen.layout.names.items()
    }
    if chosen == classes.AUTO_ENCODER_TOPK:
        stored |= {"k": Number(sae.info.get("k"), "I32"), "threshold": Number(-1.0, "F32")}
    if chosen == classes.BATCH_TOPK:
        threshold = _one_threshold(tensors["threshold"])
        assert threshold is not None
        stored |= {"k": Number(_k(sae.info), "I32"), "threshold": Number(threshold, "F32")}
    return stored


def _k(info: SaeInfo) -> int:
    """Of training alone where there is a threshold; if unknown, it is to limit nothing."""
    k: int = info.get("k") or info.get("d_sae")
    return k


def _config(info: SaeInfo, chosen: DictClass) -> dict[str, Any]:
    trainer = {
        "trainer_class": TRAINERS[chosen.name],
        "dict_class": chosen.name,
        "activation_dim": info.get("d_in"),
        "dict_size": info.get("d_sae"),
        "layer": info.get("layer"),
        "lm_name": info.get("model_name") or "",  # readers split it: it is always a text
        "submodule_name": submodule_name(info.get("hook_name")),
    }
    if info.get("model_name"):  # readers of lm_name take the last part of it
        trainer["model_name"] = info.get("model_name")
    if "k" in chosen.buffers:
        trainer["k"] = _k(info)
    size = info.get("context_size")
    return {"trainer": trainer, "buffer": {"ctx_len": size, "io": "out"} if size else {}}
