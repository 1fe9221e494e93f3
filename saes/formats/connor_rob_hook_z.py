"""Connor Kissane and Rob Krzyzanowski: X.pt with community tensors, X_cfg.json beside it.

They were trained on all attention heads side by side (hook_z). The name of the configuration is cut
at the first ".pt".
"""

import re
from typing import Any, ClassVar

from saes.errors import BrokenFile, NotThisFormat
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts
from saes.formats.configs import Config, read_config
from saes.formats.family import Family, Layout, Reading, dimensions
from saes.formats.files.rereading import reopen
from saes.formats.names import hook_layer, site_of
from saes.formats.single import base_of, opened, stated
from saes.reference import Plain, Reference, relu

LAYOUT = Layout({name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")})
SEMANTICS = {
    "architecture": "standard",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "hook_z",
}
LAYER = re.compile(r"_L(\d+)_")
GPT2_HOOK_Z = {
    "prepend_bos": True,
    "context_size": 128,
    "dataset_path": "Skylion007/openwebtext",
}


class ConnorRobHookZ(Family):
    slug: ClassVar[str] = "connor_rob_hook_z"
    label: ClassVar[str] = "Connor Kissane and Rob Krzyzanowski (hook_z)"
    looks_for: ClassVar[str] = "`X.pt` with `X_cfg.json` beside it"

    def find(self, tree: Tree) -> list[str]:
        return sorted(
            name for name in tree.names if name.endswith(".pt") and _config_name(name) in tree.names
        )

    def files(self, tree: Tree, where: str) -> list[str]:
        return [where, _config_name(where)]

    def hints(self, tree: Tree, where: str) -> Facts:
        return {**super().hints(tree, where), **_named(where)}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        if ".pt" not in base_of(where) or _config_name(where) not in source.tree.names:
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        container = opened(source, where, self.looks_for, *LAYOUT.names)
        if len(container.shapes["W_enc"]) != 2:
            raise NotThisFormat("Its matrices have two axes.")
        config = read_config(source, _config_name(where))
        found = dimensions(container.name, LAYOUT.shapes(container), "standard")
        _check_sizes(config, found)
        facts = {
            **self.hints(source.tree, where),
            **as_facts(Origin.CATALOGUE, SEMANTICS),
            **_told(config, where),
            **as_facts(Origin.FILE, {**found, "dtype": LAYOUT.dtype(container)}),
        }
        files = self.files(source.tree, where)
        info = SaeInfo(self.slug, where, stated(where, facts, given), container.specs, files)
        return Reading(info, lambda folder: LAYOUT.tensors(folder, container))

    def reference(self, source: Folder, where: str, given: Given) -> Reference:
        """relu((x - b_dec) @ W_enc + b_enc) @ W_dec + b_dec."""
        info = self.probe(source, where, given)
        arrays = reopen(source.path(where))
        return Plain(
            encoder=arrays.matrix("W_enc"),
            decoder=arrays.matrix("W_dec"),
            b_dec=arrays.vector("b_dec"),
            activation=relu(arrays.vector("b_enc")),
            centre=info.get("apply_b_dec_to_input"),
            normalisation=info.get("normalize_activations"),
        )


def _named(where: str) -> Facts:
    """gpt2-small_L3_Hcat_z_...: layer, heads and site."""
    layer, is_z = LAYER.search(base_of(where)), "_z_" in base_of(where)
    told = {"layer": int(layer[1]) if layer else None, "hook_type": "attention" if is_z else None}
    return as_facts(Origin.PATH, told)


def _config_name(where: str) -> str:
    folder, slash, base = where.rpartition("/")
    return f"{folder}{slash}{base.partition('.pt')[0]}_cfg.json"


def _check_sizes(config: Config, found: dict[str, Any]) -> None:
    for key, dimension in (("act_size", "d_in"), ("dict_size", "d_sae")):
        told = config.whole(key)
        if told not in (None, found[dimension]):
            raise BrokenFile(
                f"`{config.name}`: {key} is {told}, but the weights have {found[dimension]}."
            )


def _told(config: Config, where: str) -> Facts:
    hook = config.text("act_name")
    is_z = hook is None or hook.endswith("hook_z")
    model = config.text("model_name")
    told = {
        "hook_name": hook,
        "layer": config.whole("layer", least=0) if hook is None else hook_layer(hook),
        "hook_type": None if hook is None else site_of(hook),
        "model_name": model,
        "reshape_activations": None if is_z else "none",
    }
    named = "gpt2-small" if base_of(where).startswith("gpt2-small") else None
    is_theirs = is_z and "gpt2-small" in (model, named)
    return {
        **as_facts(Origin.PATH, {"model_name": named}),
        **as_facts(Origin.CATALOGUE, GPT2_HOOK_Z if is_theirs else {}),
        **as_facts(Origin.FILE, told),
    }
