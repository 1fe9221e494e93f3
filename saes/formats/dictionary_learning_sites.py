"""Places by dictionary_learning's names: trainer.submodule_name and the folders called after it."""

import re
from typing import Any

from saes.formats.base import Facts, Origin, as_facts
from saes.formats.names import site_of

SUBMODULE = re.compile(
    r"(resid_post|resid_out|resid_pre|resid|mlp_out|mlp|attn_out|attn|attention)"
    r"(?:_?(?:layer|l)?_?(\d+))?(?:_checkpoints)?",
    re.ASCII,
)
HOOKS = {
    "resid_post": "hook_resid_post",
    "resid_out": "hook_resid_post",
    "resid": "hook_resid_post",
    "resid_pre": "hook_resid_pre",
    "mlp_out": "hook_mlp_out",
    "mlp": "hook_mlp_out",
    "attn_out": "hook_attn_out",
    "attn": "hook_attn_out",
    "attention": "hook_attn_out",
}
WORDS = {hook: word for word, hook in reversed(HOOKS.items())}
EMBEDDINGS = ("hook_embed", "hook_pos_embed")  # of no layer
HOOK = re.compile(r"blocks\.(\d+)\.([\w.]+)", re.ASCII)


def of_submodule(name: str, layer: int | None) -> dict[str, Any]:
    """What `name` tells of layer, hook and site. `layer`, if it is known, outranks the name's."""
    hook, found = HOOK.fullmatch(name), SUBMODULE.fullmatch(name)
    if name in EMBEDDINGS:
        return {"hook_name": name, "hook_type": "embedding"}
    if hook:
        return {"layer": int(hook[1]), "hook_name": name, "hook_type": site_of(hook[2])}
    if found is None:
        return {}
    number = layer if layer is not None or not found[2] else int(found[2])
    kind = HOOKS[found[1]]
    told = {"layer": number, "hook_name": f"blocks.{number}.{kind}"} if number is not None else {}
    return {**told, "hook_type": site_of(kind)}


def by_folders(where: str, layer: int | None = None) -> Facts:
    """The nearest folder that is called after a submodule."""
    for folder in reversed(where.split("/")):
        told = of_submodule(folder, layer)
        if told:
            return as_facts(Origin.PATH, told)
    return {}


def submodule_name(hook_name: str | None) -> str | None:
    """What trainer.submodule_name says for this hook; a hook without a word there keeps its own."""
    found = HOOK.fullmatch(hook_name or "")
    if found is None or found[2] not in WORDS:
        return hook_name
    return f"{WORDS[found[2]]}_layer_{found[1]}"
