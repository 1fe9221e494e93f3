"""What the older miStudio exported under SAELens' file names, beside a cfg.json that misleads.

Neuronpedia zips hold the raw checkpoint; its cfg.json always says "none" for the normalisation.
The community format has the standard tensors, but its cfg.json denies centring and calls every
hook resid_post, and generation 1 lost decoder.bias.
"""

from typing import Any

from saes.errors import NotThisFormat, UnsupportedArchitecture
from saes.formats import mistudio_legacy, mistudio_tensors
from saes.formats.architectures import TOPK, Shape, check_tensors, standard_shapes
from saes.formats.base import (
    Fact,
    Facts,
    Folder,
    Given,
    Origin,
    Sae,
    SaeInfo,
    Source,
    as_facts,
    inside,
)
from saes.formats.configs import Config, read_config
from saes.formats.files.containers import Container, read_safetensors
from saes.formats.given import GENERATION, NORMALISATION, K, dtype_words, with_given
from saes.formats.mistudio_beside import normalisation, of_percent
from saes.formats.mistudio_classes import TRANSCODERS, WITH_TOPK
from saes.formats.mistudio_given import Possible, means_topk, possible, refuse_unfit
from saes.formats.mistudio_legacy import hook_facts
from saes.formats.names import hints_from, hook_layer, site_of

FILES = CFG, WEIGHTS = ("cfg.json", "sae_weights.safetensors")
ARCHITECTURES = {
    "standard_saelens": "standard",
    "standard_anthropic": "standard",
    "skip": "skip_transcoder",
}
SECOND = ("standard_saelens", "standard_anthropic", "topk")
KNOWN = ("standard", "topk", "jumprelu", "transcoder", "skip_transcoder")
LOST_BIAS = "the export left out decoder.bias: features are exact, reconstructions lack a constant"
LOST_CENTRE = "the export left out b_enc_center, so its features cannot be computed"


def probe(source: Source, where: str, given: Given) -> SaeInfo:
    if not all(source.tree.has(where, base) for base in FILES):
        raise NotThisFormat("It looks for `checkpoint.safetensors` with miStudio's tensor names.")
    file, cfg = inside(where, WEIGHTS), read_config(source, inside(where, CFG))
    container = read_safetensors(source, file)
    if "W_enc" not in container.members or "model.W_enc" in container.members:
        return _raw(mistudio_legacy.probe(source, where, file, given), cfg)
    if "mistudio_training_id" not in cfg and "mistudio_checkpoint_step" not in cfg:
        raise NotThisFormat("Neither its tensors nor cfg.json name miStudio.")
    return _community(source, where, (container, cfg), given)


def load(source: Folder, info: SaeInfo) -> Sae:
    container = read_safetensors(source, inside(info.where, WEIGHTS))
    if "W_enc" not in container.members or "activation.log_threshold" in container.members:
        return mistudio_tensors.load(source, container.name, info)
    tensors = {name: container.tensor(source, name) for name in container.members}
    skips = "skip" in info.get("architecture")
    return Sae(info, mistudio_tensors.skipping(tensors, info) if skips else tensors)


def _raw(info: SaeInfo, cfg: Config) -> SaeInfo:
    """Of this cfg.json only what describes is believed: the arithmetic in it is always the same."""
    facts = {**_described(cfg, info.get("hook_type")), **info.facts}
    files = [inside(info.where, base) for base in FILES]
    return SaeInfo(info.format, info.where, facts, info.tensors, files, info.missing)


def _described(cfg: Config, site: str | None) -> dict[str, Fact]:
    """hook_name only where folder or header tell the same: every hook was labelled resid_post."""
    hook = cfg.text("hook_name") or cfg.text("hook_point") or ""
    told: dict[str, Any] = {"model_name": cfg.text("model_name")}
    if hook and site == site_of(hook):
        told |= {"hook_name": hook, "hook_type": site_of(hook)}
    told |= {"context_size": cfg.whole("context_size", 0), "prepend_bos": cfg.flag("prepend_bos")}
    told["layer"] = hook_layer(hook)
    return {name: Fact(value, Origin.FILE) for name, value in told.items() if value is not None}


def _community(
    source: Source, where: str, files: tuple[Container, Config], given: Given
) -> SaeInfo:
    container, cfg = files
    hints = hints_from(where, source.tree.repo_id)
    site = hints["hook_type"].value if "hook_type" in hints else None
    facts = with_given({**hints, **_described(cfg, site), **_facts(container, cfg, given)}, given)
    refuse_unfit(inside(where, CFG), given, _possible(cfg, facts, given))
    facts = {**hook_facts(facts), **facts}
    missing = [fact for fact in (GENERATION, NORMALISATION) if fact.name not in facts]
    if facts["architecture"].value in TOPK and "k" not in facts:
        missing.append(K)
    check_tensors(container.name, container.shapes, _shapes(facts))
    names = [inside(where, base) for base in FILES]
    return SaeInfo("mistudio", where, facts, container.specs, names, missing)


def _shapes(facts: Facts) -> dict[str, Shape]:
    """A skip autoencoder adds its input: that takes no tensor."""
    dims = [facts[name].value for name in ("d_in", "d_sae", "d_out")]
    shapes = standard_shapes(facts["architecture"].value, *dims)
    return {name: shape for name, shape in shapes.items() if name != "W_skip"}


def _facts(container: Container, cfg: Config, given: Given) -> dict[str, Fact]:
    d_in, d_sae = (*container.shapes["W_enc"], 0, 0)[:2]
    d_in, d_sae = cfg.whole("d_in") or d_in, cfg.whole("d_sae") or d_sae
    architecture, k = _architecture(cfg, d_sae)
    if means_topk(given) and _is_silent(cfg, given):
        architecture = WITH_TOPK.get(architecture, architecture)
    transcodes = architecture in TRANSCODERS
    told: dict[str, Any] = {
        "architecture": architecture,
        "k": k,
        "d_in": d_in,
        "d_sae": d_sae,
        "d_out": (*container.shapes.get("b_dec", ()), 0)[0] if transcodes else d_in,
        "dtype": dtype_words(container.members["W_enc"].dtype),
        "generation": _generation(cfg),
        "normalize_activations": None if transcodes else normalisation(cfg),
    }
    arithmetic = _arithmetic(container, architecture, _generation(cfg) or given.get("generation"))
    return {**as_facts(Origin.FILE, told), **as_facts(Origin.CATALOGUE, arithmetic)}


def _arithmetic(container: Container, architecture: str, generation: int | None) -> dict[str, Any]:
    told: dict[str, Any] = {"reshape_activations": "none"}
    if architecture in TRANSCODERS:
        if generation == 2:
            raise UnsupportedArchitecture(f"`{container.name}`: {LOST_CENTRE}.")
        return {**told, "apply_b_dec_to_input": False, "normalize_activations": "none"}
    if generation == 1 and architecture != "jumprelu":
        told["warning"] = LOST_BIAS
    if "skip" in architecture:
        told["apply_b_dec_to_input"] = False
    elif generation is not None:
        told["apply_b_dec_to_input"] = generation == 2
    return told


def _architecture(cfg: Config, d_sae: int) -> tuple[str, int | None]:
    told = cfg.text("architecture") or "standard"
    architecture = ARCHITECTURES.get(told, told)
    if architecture not in KNOWN:
        raise UnsupportedArchitecture(
            f"`{cfg.name}`: miStudio never had a class for a {architecture[:40]} SAE."
        )
    extra = cfg.section("extra_metadata")
    percent = extra.number("top_k_sparsity")
    if architecture in WITH_TOPK and percent is not None and told not in SECOND:
        return WITH_TOPK[architecture], of_percent(extra, percent, d_sae)
    k = extra.whole("top_k") if architecture == "topk" else None
    if k is not None and k > d_sae:
        raise extra.wrong("top_k", f"at most d_sae, {d_sae:,}")
    return architecture, k


def _generation(cfg: Config) -> int | None:
    extra = cfg.section("extra_metadata")
    if "top_k" in extra or cfg.text("architecture") in SECOND:
        return 2
    # For two days generation 2 wrote this key too; its JumpReLU began at 0.5, the first's at 0.001.
    first = "top_k_sparsity" in extra and extra.number("initial_threshold") != 0.5
    return 1 if first else None


def _is_silent(cfg: Config, given: Given) -> bool:
    """On top-k: generation 1 wrote the key even where there was none, generation 2 said topk."""
    generation = _generation(cfg) or given.get("generation")
    return generation != 2 and "top_k_sparsity" not in cfg.section("extra_metadata")


def _possible(cfg: Config, facts: Facts, given: Given) -> Possible:
    """What can be stated, by what cfg.json shows."""
    architecture, d_sae = facts["architecture"].value, facts["d_sae"].value
    generation = facts["generation"].value if "generation" in facts else None
    shown, own = _generation(cfg), _architecture(cfg, d_sae)[0]
    with_k = (WITH_TOPK.get(own, own),) if _is_silent(cfg, given) else ()
    normalisations = ["none"] if architecture in TRANSCODERS else list(NORMALISATION.readings)
    return {
        "architecture": (own, *with_k),
        "generation": (shown,) if shown else (1, 2),
        "normalize_activations": normalisations,
        "orientation": ("d_in,d_sae",),
        **possible(facts, folded="skip" in architecture and generation == 2),
    }
