"""Writing what sparsify's own loader takes: sae.safetensors and cfg.json.

It casts every tensor to the dtype of the first one, so all are written in one that loses nothing.
"""

from pathlib import Path
from typing import Any

from saes.errors import CannotRepresent
from saes.formats.base import Sae, SaeInfo
from saes.formats.files.writing import write_json, write_safetensors
from saes.progress import Reporter
from saes.tensors import LazyTensor

NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias"}  # the others keep theirs


def save(sae: Sae, target: Path, progress: Reporter) -> list[Path]:
    _refuse_misfit(sae.info)
    weights, cfg = target / "sae.safetensors", target / "cfg.json"
    write_safetensors(weights, _stored(sae), {}, progress)
    write_json(cfg, _config(sae.info))
    run = _run(sae.info)
    if not run:
        return [weights, cfg]
    write_json(target / "config.json", {"sae": _config(sae.info), **run})
    return [weights, cfg, target / "config.json"]


def _refuse_misfit(info: SaeInfo) -> None:
    transcodes = info.get("architecture") != "topk"
    if info.get("apply_b_dec_to_input") == transcodes:
        told = "never subtract b_dec" if transcodes else "always subtract b_dec"
        raise _cannot("apply_b_dec_to_input", f"its {_kind(transcodes)} {told}")
    if info.get("d_out") != info.get("d_in"):
        raise _cannot("d_out", "its output is as wide as its input")
    for fact in ("normalize_activations", "reshape_activations"):
        if info.get(fact, "none") != "none":
            raise _cannot(fact, "it knows only none")
    if info.get("rescale_acts_by_decoder_norm"):
        raise _cannot("rescale_acts_by_decoder_norm", "its top-k does not weigh activations")


def _kind(transcodes: bool) -> str:
    return "transcoders" if transcodes else "autoencoders"


def _cannot(field: str, why: str) -> CannotRepresent:
    return CannotRepresent(f"sparsify cannot hold this {field}: {why}.")


def _stored(sae: Sae) -> dict[str, LazyTensor]:
    dtypes = {it.dtype for it in sae.tensors.values()}
    common = dtypes.pop() if len(dtypes) == 1 else "F64" if "F64" in dtypes else "F32"
    return {
        NAMES.get(name, name): (it.transposed() if name == "W_enc" else it).cast(common)
        for name, it in sae.tensors.items()
    }


def _config(info: SaeInfo) -> dict[str, Any]:
    """normalize_decoder is about training alone, and would be a claim about the decoder."""
    architecture = info.get("architecture")
    return {
        "activation": "topk",
        "expansion_factor": max(1, info.get("d_sae") // info.get("d_in")),
        "normalize_decoder": False,
        "num_latents": info.get("d_sae"),
        "k": info.get("k"),
        "multi_topk": False,
        "skip_connection": "skip" in architecture,
        "transcode": architecture != "topk",
        "d_in": info.get("d_in"),
    }


def _run(info: SaeInfo) -> dict[str, Any]:
    """What sparsify tells of the whole run, as far as it is known."""
    hook = info.get("hf_hook_name")
    told = {
        "hookpoints": [hook] if hook else None,
        "model": info.get("model_name"),
        "dataset": info.get("dataset_path"),
        "ctx_len": info.get("context_size"),
    }
    return {name: value for name, value in told.items() if value is not None}
