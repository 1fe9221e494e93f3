"""Hookpoints of sparsify: a module's path in the Hugging Face model, and what it is called here."""

import re
from typing import Any

from saes.formats.base import ROOT, Facts, Origin, as_facts
from saes.formats.configs import Config
from saes.formats.names import hints_from, site_of

PREFIXES = r"(?:(?:model|transformer|gpt_neox|language_model)\.)*"
LAYER = re.compile(rf"{PREFIXES}(?:layers|h|blocks|block)\.(\d+)(?:\.(.+))?", re.ASCII)
EMBEDDING = re.compile(rf"{PREFIXES}(?:embed_tokens|embed_in|wte)", re.ASCII)
SEED = re.compile(r"seed\d+", re.ASCII)
MODULES = {"mlp": ("mlp",), "attention": ("attention", "self_attn", "attn")}
HOOKS = {"mlp": "blocks.{}.hook_mlp_out", "attention": "blocks.{}.hook_attn_out"}
# Their blocks normalise what attention and MLP give, and the hook_*_out lie behind that.
SANDWICHED = re.compile(r"gemma-?[23]|olmo-?2", re.I)


def hookpoint(where: str) -> str | None:
    """The module's path, where the folder is named after one."""
    parts = [part for part in where.split("/") if not SEED.fullmatch(part)]
    last = parts[-1] if parts and where != ROOT else ""
    return last if LAYER.fullmatch(last) or EMBEDDING.fullmatch(last) else None


def hints(where: str, repo_id: str | None) -> Facts:
    transcodes = site_of((repo_id or "").rpartition("/")[2]) == "transcoder"
    return {**_by_words(where, repo_id), **_by_hookpoint(where, repo_id or "", transcodes)}


def placed(where: str, repo_id: str | None, run: Config | None, transcodes: bool) -> Facts:
    """Model, data and hook, as far as the run's config.json and names tell them."""
    told = _of_run(run) if run else {}
    models = f"{repo_id or ''} {told.get('model_name') or ''}"
    facts = {**_by_words(where, repo_id), **as_facts(Origin.FILE, told)}
    only = _only(run) if run and hookpoint(where) is None else None
    if only is None:
        return {**facts, **_by_hookpoint(where, models, transcodes)}
    return {**facts, **as_facts(Origin.FILE, _hooks(only, models, transcodes))}


def _by_words(where: str, repo_id: str | None) -> Facts:
    """Words in paths tell less than a hookpoint does."""
    told = hints_from(where, repo_id)
    certain = hookpoint(where) is None
    return {name: fact for name, fact in told.items() if certain or name != "hook_type"}


def _by_hookpoint(where: str, models: str, transcodes: bool) -> Facts:
    name = hookpoint(where)
    return {} if name is None else as_facts(Origin.PATH, _hooks(name, models, transcodes))


def _of_run(run: Config) -> dict[str, Any]:
    return {
        "model_name": run.text("model") or None,
        "dataset_path": run.text("dataset"),
        "context_size": run.whole("ctx_len"),
    }


def _only(run: Config) -> str | None:
    """The hookpoint of a run that has a single one."""
    listed = run.values.get("hookpoints")
    name = listed[0] if isinstance(listed, list) and len(listed) == 1 else None
    known = isinstance(name, str) and len(name) < 300 and hookpoint(name) == name
    return name if known else None


def _hooks(name: str, models: str, transcodes: bool) -> dict[str, Any]:
    found, told = LAYER.fullmatch(name), dict[str, Any](hf_hook_name=name)
    if found is None:
        return {**told, "hook_type": "transcoder" if transcodes else "embedding"}
    layer, inner = int(found[1]), found[2]
    told |= {"layer": layer, **_of_block(layer, inner, models)}
    if not transcodes:
        return told
    out = told.pop("hook_name", None)
    entry = f"blocks.{layer}.hook_resid_pre" if inner is None else None
    return {**told, "hook_name": entry, "hook_name_out": out, "hook_type": "transcoder"}


def _of_block(layer: int, inner: str | None, models: str) -> dict[str, Any]:
    if inner is None:
        return {"hook_name": f"blocks.{layer}.hook_resid_post", "hook_type": "residual"}
    module, _, deeper = inner.partition(".")
    site = next((site for site, names in MODULES.items() if module in names), None)
    if site is None:
        return {}
    certain = not deeper and not SANDWICHED.search(models)
    return {"hook_name": HOOKS[site].format(layer) if certain else None, "hook_type": site}
