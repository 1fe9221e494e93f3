"""A training record in miStudio's own words, as facts: top_k_sparsity, architecture_type, ...

What its class ignored of the record is no fact of the SAE either.
"""

from collections.abc import Mapping
from typing import Any

from saes.errors import BadFact, BrokenFile, DimensionMismatch
from saes.formats.architectures import TOPK
from saes.formats.base import SaeInfo
from saes.formats.configs import Config
from saes.formats.given import GENERATION, READERS, cleaned
from saes.formats.mistudio_beside import CLASSES, normalisation, of_percent
from saes.formats.mistudio_classes import KINDS, TRANSCODERS, WITH_TOPK

SIZES = {
    "hidden_dim": "d_in",
    "d_in": "d_in",
    "latent_dim": "d_sae",
    "d_sae": "d_sae",
    "output_dim": "d_out",
}


def facts_from(hyperparams: Mapping[str, Any], info: SaeInfo) -> dict[str, Any]:
    """The facts in it that concern this SAE. Raises BadFact, DimensionMismatch."""
    facts = cleaned({name: it for name, it in hyperparams.items() if name in READERS})
    if info.format != "mistudio":
        return facts
    try:
        return _translated(Config("hyperparams", dict(hyperparams)), info, facts)
    except BrokenFile as error:
        raise BadFact(str(error)) from error


def _translated(record: Config, info: SaeInfo, facts: dict[str, Any]) -> dict[str, Any]:
    _check_sizes(record, info)
    word = _word(record)
    if word == "standard_anthropic":
        facts["normalize_activations"] = normalisation(record)
    if info.get("architecture") in TRANSCODERS:
        facts.pop("normalize_activations", None)  # in each record, but transcoders never did
    generation = facts.get("generation") or info.get("generation")
    if (word or "").startswith("standard_") and _has_generation(info):
        generation = facts.setdefault("generation", 2)
    k = _k(record, info, generation) if _uses_k(word, info, generation) else None
    if k is not None and facts.setdefault("k", k) != k:
        raise record.wrong("k", f"{k:,}, as the record says too")
    if word is not None:
        facts.setdefault("architecture", _architecture(word, info, generation, "k" in facts))
    return facts


def _check_sizes(record: Config, info: SaeInfo) -> None:
    for key, name in SIZES.items():
        told, found = record.whole(key), info.get(name)
        if told is not None and told != found:
            raise DimensionMismatch(
                f"`hyperparams`: {key} is {told:,}, the tensors of `{info.where}` say {found:,}.",
                solution="Check that the record belongs to this checkpoint.",
            )


def _word(record: Config) -> str | None:
    word = record.text("architecture_type")
    word = word if word in CLASSES else word and word.lower()
    if word is not None and word not in CLASSES:
        raise record.wrong("architecture_type", "one of " + ", ".join(sorted(CLASSES)))
    return word


def _has_generation(info: SaeInfo) -> bool:
    asked = any(fact.name == GENERATION.name for fact in info.missing)
    return asked or info.get("generation") is not None


def _k(record: Config, info: SaeInfo, generation: int | None) -> int | None:
    """A number in generation 2, a percentage of all features in generation 1."""
    k, percent = record.whole("top_k"), record.number("top_k_sparsity")
    if percent is None or (k is not None and generation == 2):
        return k
    counted = of_percent(record, percent, info.get("d_sae"))
    if k not in (None, counted):
        raise record.wrong("top_k", f"{counted:,}, as top_k_sparsity says")
    return counted


def _uses_k(word: str | None, info: SaeInfo, generation: int | None) -> bool:
    """Generation 2 ignored it in all classes but TopKSAE."""
    own = KINDS[CLASSES[word]].architecture if word else info.get("architecture")
    return own in TOPK or (own in WITH_TOPK and generation != 2)


def _architecture(word: str, info: SaeInfo, generation: int | None, has_k: bool) -> str:
    own, shown = KINDS[CLASSES[word]].architecture, info.get("architecture")
    with_k = WITH_TOPK.get(own, own)
    is_topk = has_k or shown == with_k
    return with_k if is_topk and generation != 2 else own
