"""What the older miStudio exported under SAELens' file names, beside a cfg.json that misleads.

Neuronpedia zips hold the raw checkpoint; its cfg.json always says "none" for the normalisation.
The community format has the standard tensors, but its cfg.json denies centring and calls every
hook resid_post, and generation 1 lost decoder.bias.
"""

from typing import Any

from saes.errors import NotThisFormat, UnsupportedArchitecture
from saes.formats import mistudio_legacy
from saes.formats.architectures import NORMALISATIONS, check_tensors, standard_shapes
from saes.formats.base import Fact, Folder, Given, Origin, Sae, SaeInfo, Source, inside
from saes.formats.configs import Config, read_config
from saes.formats.containers import Container, read_safetensors
from saes.formats.given import GENERATION, NORMALISATION, K, dtype_words, with_given
from saes.formats.names import hints_from, hook_layer, site_of

FILES = CFG, WEIGHTS = ("cfg.json", "sae_weights.safetensors")
ARCHITECTURES = {"standard_saelens": "standard", "standard_anthropic": "standard"}
KNOWN = ("standard", "topk", "jumprelu")
LOST_BIAS = "the export left out decoder.bias: features are exact, reconstructions lack a constant"


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
        return mistudio_legacy.load(source, container.name, info)
    return Sae(info, {name: container.tensor(source, name) for name in container.members})


def _raw(info: SaeInfo, cfg: Config) -> SaeInfo:
    """Of this cfg.json only what describes is believed: the arithmetic in it is always the same."""
    facts = {**_described(cfg, info.get("hook_type")), **info.facts}
    files = [inside(info.where, base) for base in FILES]
    return SaeInfo(info.format, info.where, facts, info.tensors, files, info.missing)


def _described(cfg: Config, site: str | None) -> dict[str, Fact]:
    """hook_name only where the folder or header agrees: every hook was labelled resid_post."""
    hook = cfg.text("hook_name") or cfg.text("hook_point") or ""
    told: dict[str, Any] = {"model_name": cfg.text("model_name")}
    if hook and site in (None, site_of(hook)):
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
    missing = [fact for fact in (GENERATION, NORMALISATION) if fact.name not in facts]
    if facts["architecture"].value == "topk" and "k" not in facts:
        missing.append(K)
    dims = (facts["d_in"].value, facts["d_sae"].value)
    check_tensors(
        container.name,
        container.shapes,
        standard_shapes(facts["architecture"].value, *dims, dims[0]),
    )
    names = [inside(where, base) for base in FILES]
    return SaeInfo("mistudio", where, facts, container.specs, names, missing)


def _facts(container: Container, cfg: Config, given: Given) -> dict[str, Fact]:
    d_in, d_sae = (*container.shapes["W_enc"], 0, 0)[:2]
    architecture, k = _architecture(cfg, d_sae)
    generation = _generation(cfg) or given.get("generation")
    told: dict[str, Any] = {
        "architecture": architecture,
        "k": k,
        "d_in": cfg.whole("d_in") or d_in,
        "d_sae": cfg.whole("d_sae") or d_sae,
        "d_out": cfg.whole("d_in") or d_in,
        "dtype": dtype_words(container.members["W_enc"].dtype),
        "generation": _generation(cfg),
        "normalize_activations": _normalisation(cfg),
    }
    facts = {name: Fact(value, Origin.FILE) for name, value in told.items() if value is not None}
    facts["reshape_activations"] = Fact("none", Origin.CATALOGUE)
    if generation is not None:
        facts["apply_b_dec_to_input"] = Fact(generation == 2, Origin.CATALOGUE)
    if generation == 1 and architecture != "jumprelu":
        facts["warning"] = Fact(LOST_BIAS, Origin.CATALOGUE)
    return facts


def _architecture(cfg: Config, d_sae: int) -> tuple[str, int | None]:
    told = cfg.text("architecture") or "standard"
    architecture = ARCHITECTURES.get(told, told)
    if architecture not in KNOWN:
        raise UnsupportedArchitecture(
            f"`{cfg.name}`: the export of a {architecture[:40]} SAE is incomplete."
        )
    extra = cfg.section("extra_metadata")
    percent = extra.number("top_k_sparsity")
    if architecture == "standard" and percent is not None:
        return "topk", max(1, int(percent / 100 * d_sae))
    if architecture == "topk":
        return "topk", extra.whole("top_k")
    return architecture, None


def _generation(cfg: Config) -> int | None:
    extra = cfg.section("extra_metadata")
    if "top_k" in extra or cfg.text("architecture") in (*ARCHITECTURES, "topk"):
        return 2
    return 1 if "top_k_sparsity" in extra else None


def _normalisation(cfg: Config) -> str | None:
    told = cfg.text("normalize_activations")
    if told == "anthropic_rescale":  # the same arithmetic under another name
        return "constant_norm_rescale"
    if told is None or told in NORMALISATIONS:
        return told
    raise cfg.wrong("normalize_activations", "one of " + ", ".join(NORMALISATIONS))
