"""cfg.json of SAELens 6: its keys, by architecture, and what its silence means."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from saes.formats.architectures import NORMALISATIONS, Shape, is_transcoder, standard_shapes
from saes.formats.base import Facts
from saes.formats.configs import Config

Read = Callable[[Config, str], Any]
ARCHITECTURES = (
    "standard", "gated", "topk", "abstopk", "jumprelu",
    "transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder",
    "temporal", "matching_pursuit",
)  # fmt: skip
BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")  # trained as these, released as:
RELEASED = "jumprelu"
WITHOUT_ENCODER = ("temporal", "matching_pursuit")
TEMPORAL_NORMALISATIONS = (*NORMALISATIONS[:-1], "constant_scalar_rescale")
RESHAPES = ("none", "hook_z")
MAX_LAYERS = 1000


def word(cfg: Config, key: str, words: Sequence[str]) -> str | None:
    """One of these words. Null is none of them: SAELens refuses it too."""
    value = cfg.text(key)
    if value in words or key not in cfg:
        return value
    raise cfg.wrong(key, "one of " + ", ".join(words))


def _activation(cfg: Config, key: str) -> str | None:
    return word(cfg, key, ("relu", "topk"))


def _layers(cfg: Config, key: str) -> int | None:
    value = cfg.whole(key)
    if value is None or value <= MAX_LAYERS:
        return value
    raise cfg.wrong(key, f"a whole number up to {MAX_LAYERS}")


TOPK_KEYS: dict[str, Read] = {"k": Config.whole, "rescale_acts_by_decoder_norm": Config.flag}
OWN_KEYS: Mapping[str, Mapping[str, Read]] = {
    "topk": TOPK_KEYS,
    "abstopk": TOPK_KEYS,
    "temporal": {
        "n_heads": Config.whole,
        "n_attn_layers": _layers,
        "bottleneck_factor": Config.whole,
        "sae_diff_type": _activation,
        "kval_topk": Config.whole,
        "tied_weights": Config.flag,
        "activation_normalization_factor": Config.number,
    },
    "matching_pursuit": {
        "residual_threshold": Config.number,
        "max_iterations": Config.whole,
        "stop_on_duplicate_support": Config.flag,
    },
}
DEFAULTS: Mapping[str, Any] = {  # of SAELens. Not its k = 100: that is a guess
    "rescale_acts_by_decoder_norm": False,
    "n_heads": 8,
    "n_attn_layers": 1,
    "bottleneck_factor": 64,
    "sae_diff_type": "topk",
    "tied_weights": True,
    "activation_normalization_factor": 1.0,
    "residual_threshold": 0.01,
    "stop_on_duplicate_support": True,
}


def _count(cfg: Config, key: str) -> int | None:
    return cfg.whole(key, least=0)


def _l0(cfg: Config, key: str) -> float | str | None:
    """A number, or a word of Gemma Scope's folder names (small, medium, big)."""
    return cfg.text(key) if isinstance(cfg.values.get(key), str) else cfg.number(key)


DESCRIBED: Mapping[str, Read] = {  # in `metadata`; these change no number
    "model_name": Config.text,
    "hook_name": Config.text,
    "hook_head_index": _count,
    "hook_name_out": Config.text,
    "hook_head_index_out": _count,
    "hf_hook_name": Config.text,
    "hf_hook_name_out": Config.text,
    "layer": _count,
    "hook_type": Config.text,
    "dataset_path": Config.text,
    "context_size": _count,
    "prepend_bos": Config.flag,
    "neuronpedia_id": Config.text,
    "l0": _l0,
    "training_architecture": Config.text,
    "sae_lens_training_version": Config.text,
}


def is_v6(cfg: Config) -> bool:
    version = cfg.text("sae_lens_version") or cfg.section("metadata").text("sae_lens_version")
    found = re.match(r"(\d+)\.", version or "")
    return found is not None and int(found[1]) >= 6


def semantics(cfg: Config, architecture: str) -> dict[str, Any]:
    """What the numbers mean, as cfg.json tells it; None where it is silent."""
    if cfg.flag("apply_b_dec_to_input") and is_transcoder(architecture):
        raise cfg.wrong("apply_b_dec_to_input", "false for a transcoder")
    words = TEMPORAL_NORMALISATIONS if architecture == "temporal" else NORMALISATIONS
    return {
        "apply_b_dec_to_input": cfg.flag("apply_b_dec_to_input"),
        "normalize_activations": word(cfg, "normalize_activations", words),
        "reshape_activations": word(cfg, "reshape_activations", RESHAPES),
        **{key: read(cfg, key) for key, read in OWN_KEYS.get(architecture, {}).items()},
    }


def defaults(architecture: str) -> dict[str, Any]:
    told = {
        "apply_b_dec_to_input": not is_transcoder(architecture),
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    return told | {key: DEFAULTS[key] for key in OWN_KEYS.get(architecture, ()) if key in DEFAULTS}


def described(metadata: Config) -> dict[str, Any]:
    """What names the place and the data of an SAE, typed."""
    return {key: read(metadata, key) for key, read in DESCRIBED.items()}


def shapes(facts: Facts) -> dict[str, Shape]:
    """Name -> shape of every tensor that SAELens wants, for any of its architectures."""
    architecture, d_in, d_sae, d_out = (
        facts[name].value for name in ("architecture", "d_in", "d_sae", "d_out")
    )
    if architecture not in WITHOUT_ENCODER:
        return standard_shapes(architecture, d_in, d_sae, d_out)
    wanted: dict[str, Shape] = {"W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if architecture == "temporal":
        wanted |= _attention(facts, d_sae)
        if not facts["tied_weights"].value:
            wanted["W_enc"] = (d_in, d_sae)
    return wanted


def _attention(facts: Facts, d_sae: int) -> dict[str, Shape]:
    narrow = d_sae // facts["bottleneck_factor"].value
    wanted: dict[str, Shape] = {}
    for layer in range(facts["n_attn_layers"].value):
        for name, width in (
            ("k_ctx", narrow), ("q_target", narrow), ("v_ctx", d_sae), ("c_proj", d_sae)
        ):  # fmt: skip
            wanted[f"attn_layers.{layer}.{name}.weight"] = (width, d_sae)
            wanted[f"attn_layers.{layer}.{name}.bias"] = (width,)
    return wanted
