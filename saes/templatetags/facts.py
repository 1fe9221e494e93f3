"""Facts of an SAE as pages show them: label, value, and where each comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import template

from saes.formats.architectures import NOT_PLAIN
from saes.formats.base import SaeInfo
from saes.models import Sae

register = template.Library()

FACT_LABELS = {
    "architecture": "Architecture",
    "model_name": "Model",
    "hook_name": "Hook",
    "hook_name_out": "Output hook",
    "hook_head_index": "Head",
    "hf_hook_name": "Hook, in transformers' words",
    "hf_hook_name_out": "Output hook, in transformers' words",
    "hook_type": "Site",
    "layer": "Layer",
    "d_in": "Input width (d_in)",
    "d_out": "Output width (d_out)",
    "d_sae": "Features (d_sae)",
    "dtype": "Number type",
    "k": "Active features (k)",
    "l0": "Mean active features (L0)",
    "apply_b_dec_to_input": "Subtracts b_dec from its input",
    "normalize_activations": "Normalises activations",
    "norm_scaling_factor": "Scaling factor",
    "rescale_acts_by_decoder_norm": "Weighs by decoder norm",
    "reshape_activations": "Reshapes activations",
    "training_architecture": "Trained as",
    "context_size": "Context length",
    "prepend_bos": "Starts with BOS",
    "dataset_path": "Dataset",
    "generation": "miStudio generation",
    "orientation": "Stored as",
    "n_heads": "Attention heads",
    "n_attn_layers": "Attention layers",
    "bottleneck_factor": "Attention bottleneck",
    "sae_diff_type": "Novel part",
    "kval_topk": "Novel features (k)",
    "tied_weights": "Encoder tied to decoder",
    "activation_normalization_factor": "Input factor",
    "residual_threshold": "Stops at residual",
    "max_iterations": "Most iterations",
    "stop_on_duplicate_support": "Stops at a repeated feature",
    "neuronpedia_id": "Neuronpedia",
}
ORIGINS = {
    "file": ("file", "Read from the SAE's own files."),
    "path": ("path", "Read from the names of its folders."),
    "catalogue": ("catalogue", "Known for every SAE of this family."),
    "training": ("run", "Told by the record of its training run."),
    "user": ("you", "Stated by a user of this library."),
    "inferred": ("guess", "Inferred; never used for conversion."),
}


@dataclass(frozen=True)
class FactRow:
    name: str
    label: str
    value: str
    origin: str
    tag: str
    meaning: str


@register.filter
def fact_rows(sae: Sae) -> list[FactRow]:
    """In the order of the labels; what has none comes last. The warning has its own place."""
    order = {name: place for place, name in enumerate(FACT_LABELS)}
    shown = sae.facts.keys() - {"warning"}
    names = sorted(shown, key=lambda name: (order.get(name, len(order)), name))
    return [_fact_row(name, sae.facts[name]) for name in names]


def _fact_row(name: str, fact: Mapping[str, Any]) -> FactRow:
    value, origin = fact.get("value"), str(fact.get("origin", ""))
    text = f"{value:,}" if type(value) is int and name != "layer" else str(value)
    text = {"True": "yes", "False": "no"}.get(text, text)
    tag, meaning = ORIGINS.get(origin, (origin, ""))
    return FactRow(name, FACT_LABELS.get(name, name), text, origin, tag, meaning)


@register.simple_tag
def origins() -> list[tuple[str, str, str]]:
    return [(name, tag, meaning) for name, (tag, meaning) in ORIGINS.items()]


@register.filter
def fact_value(info: SaeInfo, fact: str) -> Any:
    return info.get(fact)


@register.filter
def why_kept(info: SaeInfo) -> str:
    """Why this SAE would be kept as it is instead of being converted."""
    return NOT_PLAIN.get(info.get("architecture"), "")
