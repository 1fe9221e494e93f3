"""Gemma Scope 2: SAEs, transcoders, cross-layer transcoders and crosscoders of Gemma 3.

What config.json says comes first, names second; shapes only tell what neither does. A layer of a
CLT and a slot of a crosscoder are kept as they came: they write to several places.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from saes import reference as plain
from saes.errors import BrokenFile, MissingFact, NotThisFormat, UnsupportedArchitecture
from saes.formats.architectures import is_transcoder
from saes.formats.base import (
    Facts,
    Folder,
    Given,
    Origin,
    SaeInfo,
    Source,
    Tree,
    as_facts,
    inside,
    parent,
)
from saes.formats.configs import Config, read_config
from saes.formats.family import Family, Layout, Reading, dimensions
from saes.formats.files.containers import Container
from saes.formats.files.opening import open_container
from saes.formats.files.rereading import reopen
from saes.formats.gemma_scope_1 import CONSTANTS
from saes.formats.gemma_scope_2_parts import (
    AFFINE,
    CROSSCODER,
    KINDS,
    SUFFIX,
    parts_of,
    several,
    specs,
)
from saes.formats.gemma_scope_stated import FOREIGN, refuse_misstated
from saes.formats.given import cleaned, refuse_not_plain, with_given
from saes.formats.names import hints_from
from saes.formats.stated import refuse_unfit

if TYPE_CHECKING:
    from saes.reference import Reference

CONFIG, PARAMS = "config.json", "params.safetensors"
REPO = re.compile(r"(?:^|/)gemma-scope-2-(\d+[mb]-(?:pt|it))(?=$|[-_])")
MODEL = re.compile(r"(?:google/)?gemma-v?3-(\d+[mb](?:-(?:pt|it))?)")
FOLDER = re.compile(r"(?:^|/)(resid_post|attn_out|mlp_out|transcoder|clt)(?=[/_]|$)")
HF_LAYER = re.compile(r"\.layers\.(\d+)\.")
NAMES = {
    "W_enc": "w_enc",
    "W_dec": "w_dec",
    "b_enc": "b_enc",
    "b_dec": "b_dec",
    "threshold": "threshold",
}
PLAIN, SKIPPING = Layout(NAMES), Layout({**NAMES, "W_skip": AFFINE}, turned=("W_skip",))
SITES = {
    "resid_post": "residual",
    "attn_out": "attention",
    "mlp_out": "mlp",
    "transcoder": "transcoder",
    "clt": "transcoder",
}
HF_SITES = {  # in this order: the last ends all others but one
    "self_attn.o_proj.input": "attention",
    "pre_feedforward_layernorm.output": "transcoder",
    "post_feedforward_layernorm.output": "mlp",
    "output": "residual",
}
HOOKS = {
    "residual": "blocks.{}.hook_resid_post",
    "attention": "blocks.{}.attn.hook_z",
    "mlp": "blocks.{}.hook_mlp_out",
    "transcoder": "blocks.{}.hook_mlp_in",
}
TYPES = ("sae", "transcoder", *KINDS)
ARCHITECTURE = MissingFact(
    "architecture",
    "SAEs and transcoders look alike; there is no config.json and the names do not tell. "
    "Which is it?",
    {
        "jumprelu": "an SAE: it rebuilds the activation that it reads",
        "jumprelu_transcoder": "a transcoder: it reads the MLP's input and predicts its output",
    },
)


class GemmaScope2(Family):
    slug: ClassVar[str] = "gemma_scope_2"
    label: ClassVar[str] = "Gemma Scope 2"
    looks_for: ClassVar[str] = "`params.safetensors` or `params_layer_N.safetensors`"

    def find(self, tree: Tree) -> list[str]:
        found = tree.folders_with(PARAMS)
        for folder, bases in sorted(tree.folders.items()):
            parts = parts_of(bases)
            whole = CROSSCODER.search(folder) is not None
            found += [folder] if whole and parts else []
            found += [inside(folder, it.removesuffix(SUFFIX)) for it in parts if not whole]
        return found

    def files(self, tree: Tree, where: str) -> list[str]:
        weights = _weights(tree, where)
        config = inside(parent(weights[0]), CONFIG) if weights else ""
        return [*weights, *([config] if config in tree.names else [])]

    def hints(self, tree: Tree, where: str) -> Facts:
        facts = {**hints_from(where), **_from_names(tree.repo_id, where)}
        if CROSSCODER.search(where):
            facts.pop("layer", None)
        return facts

    def read(self, source: Source, where: str, given: Given) -> Reading:
        files = self.files(source.tree, where)
        containers = [open_container(source, it) for it in files if not it.endswith(CONFIG)]
        if not any({"w_enc", "w_dec"} & it.members.keys() for it in containers):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        config, hints = _config(source, files), self.hints(source.tree, where)
        facts = {**hints, **as_facts(Origin.CATALOGUE, CONSTANTS)}
        if len(containers) == 1 and len(containers[0].shapes.get("w_dec", ())) != 3:
            layout = SKIPPING if AFFINE in containers[0].members else PLAIN
            told = _facts(containers[0], config, hints, given)
            architecture = told["architecture"].value if "architecture" in told else None
            refuse_misstated(where, given, _possible(containers[0]), architecture)
            facts = with_given({**facts, **told}, given)
            facts |= as_facts(Origin.FILE, _dimensions(containers[0], layout, facts))
            missing = () if "architecture" in facts else (ARCHITECTURE,)
            info = SaeInfo(self.slug, where, facts, containers[0].specs, files, missing)
            return Reading(info, lambda folder: layout.tensors(folder, containers[0]))
        parts = several(where, containers, config)
        refuse_unfit(where, parts["architecture"].value, given, (*FOREIGN, "architecture"))
        facts = {**with_given(facts, given), **_model_of(config), **parts}
        return Reading(SaeInfo(self.slug, where, facts, specs(containers), files), lambda _: {})

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        """x @ affine joins jumprelu(x @ w_enc + b_enc) @ w_dec + b_dec where it is stored."""
        info, given = self.probe(source, where, given), cleaned(given)
        refuse_not_plain(info)
        file = reopen(source.path(info.files[0]))
        return plain.Plain(
            encoder=file.matrix("w_enc"),
            decoder=file.matrix("w_dec"),
            b_dec=file.vector("b_dec"),
            activation=plain.jumprelu(file.vector("b_enc"), file.vector("threshold")),
            centre=given.get("apply_b_dec_to_input", False),
            normalisation=given.get("normalize_activations", "none"),
            skip=file.matrix(AFFINE) if AFFINE in file.names else None,
            transcodes="transcoder" in info.get("architecture"),
        )


def _weights(tree: Tree, where: str) -> list[str]:
    """SAELens names a layer of a CLT without its suffix."""
    for name in (inside(where, PARAMS), where, where + SUFFIX):
        if name in tree.names:
            return [name] if name.endswith(SUFFIX) else []
    return [inside(where, base) for base in parts_of(tree.folders.get(where, set()))]


def _config(source: Source, files: Sequence[str]) -> Config:
    if not files[-1].endswith(CONFIG):
        return Config(CONFIG, {})
    config = read_config(source, files[-1])
    architecture = config.text("architecture")
    if architecture not in (None, "jump_relu"):
        raise UnsupportedArchitecture(
            f"`{config.name}`: architecture {architecture[:40]} is not jump_relu."
        )
    if config.text("type") not in (None, *TYPES):
        raise config.wrong("type", "one of " + ", ".join(TYPES))
    return config


def _from_names(repo_id: str | None, where: str) -> Facts:
    folder, repo = FOLDER.search(where), REPO.search(repo_id or "")
    model = _model(f"gemma-3-{repo[1]}") if repo else None
    return {
        **as_facts(Origin.PATH, {"hook_type": SITES[folder[1]] if folder else None}),
        **as_facts(Origin.CATALOGUE, {"model_name": model}),
    }


def _model(name: str) -> str:
    """As the Hub names it: google/gemma-3-1b-pt, but google/gemma-3-270m without its -pt."""
    found = MODEL.fullmatch(name)
    if found is None:
        return name
    return f"google/gemma-3-{'270m' if found[1] == '270m-pt' else found[1]}"


def _facts(container: Container, config: Config, hints: Facts, given: Given) -> Facts:
    named = hints["hook_type"].value if "hook_type" in hints else None
    told = _hf_site(config)
    site = told or named
    transcodes = _transcodes(container, config, site, given)
    if transcodes is not None:
        site = "transcoder" if transcodes else site if site != "transcoder" else None
    facts = {**_described(config)}
    if transcodes is not None and "architecture" not in given:
        told_by_file = bool(config.values) or AFFINE in container.members or named is None
        origin = Origin.FILE if told_by_file else Origin.PATH
        facts |= as_facts(origin, {"architecture": _architecture(container, config, transcodes)})
    layer = facts.get("layer") or hints.get("layer")
    facts |= as_facts(Origin.FILE if told else Origin.PATH, {"hook_type": site})
    number = given.get("layer", layer.value if layer else None)
    if site in HOOKS and number is not None:
        facts |= as_facts(Origin.CATALOGUE, _hooks(site, number))
    return facts


def _dimensions(container: Container, layout: Layout, facts: Facts) -> dict[str, Any]:
    known = facts["architecture"].value if "architecture" in facts else "jumprelu_transcoder"
    told = dimensions(container.name, layout.shapes(container), known)
    return {**told, "dtype": layout.dtype(container)}


def _hf_site(config: Config) -> str | None:
    hook = config.text("hf_hook_point_in") or ""
    return next((site for end, site in HF_SITES.items() if hook.endswith(end)), None)


def _transcodes(
    container: Container, config: Config, site: str | None, given: Given
) -> bool | None:
    """config.json's type, then its hooks, then names; only without any of these the header."""
    if "architecture" in given:
        return is_transcoder(given["architecture"])
    kind = config.text("type")
    if kind in KINDS:
        raise config.wrong("type", "sae or transcoder: w_dec writes to one place")
    if kind is not None:
        return kind == "transcoder"
    hooks = config.text("hf_hook_point_in"), config.text("hf_hook_point_out")
    if None not in hooks:
        return hooks[0] != hooks[1]
    if site is not None:
        return site == "transcoder"
    return True if AFFINE in container.members or _is_askew(container) else None


def _is_askew(container: Container) -> bool:
    """Whether it writes to another width than it reads."""
    shapes = container.shapes
    return (*shapes.get("w_enc", ()), 0)[0] != (*shapes.get("b_dec", ()), 0)[0]


def _possible(container: Container) -> list[str]:
    if AFFINE in container.members:
        return ["jumprelu_skip_transcoder"]
    return list(ARCHITECTURE.readings)[_is_askew(container) :]


def _architecture(container: Container, config: Config, transcodes: bool) -> str:
    affine, told = AFFINE in container.members, config.flag("affine_connection")
    if (told is not None and told != affine) or (affine and not transcodes):
        kind = "a transcoder" if transcodes else "an SAE"
        raise BrokenFile(
            f"`{container.name}`: {AFFINE} is {'there' if affine else 'missing'}, but config.json "
            f"or the names tell of {kind}, affine_connection {str(told).lower()}.",
            solution="If it is part of the SAE, state its architecture: jumprelu_skip_transcoder.",
        )
    if not transcodes:
        return "jumprelu"
    return "jumprelu_skip_transcoder" if affine else "jumprelu_transcoder"


def _hooks(site: str, layer: int) -> dict[str, str | None]:
    out = f"blocks.{layer}.hook_mlp_out" if site == "transcoder" else None
    return {"hook_name": HOOKS[site].format(layer), "hook_name_out": out}


def _described(config: Config) -> Facts:
    """What config.json tells of the place; it changes no number."""
    hook, l0 = config.text("hf_hook_point_in"), config.number("l0")
    layer = HF_LAYER.search(hook or "")
    told = {
        "layer": int(layer[1]) if layer else None,
        "l0": int(l0) if l0 is not None and l0.is_integer() else l0,
        "hf_hook_name": hook,
        "hf_hook_name_out": config.text("hf_hook_point_out"),
    }
    return {**as_facts(Origin.FILE, told), **_model_of(config)}


def _model_of(config: Config) -> Facts:
    name = config.text("model_name")
    return as_facts(Origin.FILE, {"model_name": _model(name) if name else None})
