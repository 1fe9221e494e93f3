"""SAELens native, versions 2 to 6 and training checkpoints: cfg.json beside the weights.

The tensors are the standard ones, so reading is naming; the care goes into cfg.json, and into what
a training checkpoint has not folded into its weights yet.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from saes.errors import (
    BadFact,
    BrokenFile,
    MissingFact,
    NotThisFormat,
    UnsupportedArchitecture,
)
from saes.formats import saelens_config as config
from saes.formats import saelens_weights as weights
from saes.formats import saelens_writer
from saes.formats.architectures import PLAIN, TOPK, check_tensors, is_transcoder
from saes.formats.base import (
    Fact,
    Facts,
    Folder,
    Given,
    Origin,
    Sae,
    SaeInfo,
    Source,
    Tree,
    as_facts,
    inside,
)
from saes.formats.catalogue import known
from saes.formats.configs import Config, read_config
from saes.formats.files.containers import Container, read_safetensors
from saes.formats.given import K, cleaned, dtype_words, refuse_missing, with_given
from saes.formats.names import hints_from, hook_layer, site_of
from saes.formats.saelens_legacy import migrated
from saes.formats.stated import check_k, refuse_others, refuse_unfit
from saes.progress import Reporter

if TYPE_CHECKING:
    from pathlib import Path

    from saes.reference import Reference

CFG, WEIGHTS, SPARSITY = "cfg.json", "sae_weights.safetensors", "sparsity.safetensors"
ARCHITECTURE = MissingFact(
    "architecture",
    "Which architecture is it? cfg.json does not say.",
    dict.fromkeys((it for it in config.ARCHITECTURES if it in PLAIN), ""),
)


class SaeLens:
    slug: ClassVar[str] = "saelens"
    label: ClassVar[str] = "SAELens"
    looks_for: ClassVar[str] = "`cfg.json` beside `sae_weights.safetensors`"
    architectures: ClassVar[Sequence[str]] = config.ARCHITECTURES

    def find(self, tree: Tree) -> list[str]:
        return tree.folders_with(CFG, WEIGHTS)

    def files(self, tree: Tree, where: str) -> list[str]:
        wanted = (CFG, WEIGHTS, SPARSITY, weights.SCALER, weights.WHITENING)
        return [inside(where, base) for base in wanted if tree.has(where, base)]

    def hints(self, tree: Tree, where: str) -> Facts:
        return hints_from(where, tree.repo_id)

    def probe(self, source: Source, where: str, given: Given) -> SaeInfo:
        return _Reading(source, where).info(self, cleaned(given))

    def load(self, source: Folder, where: str, given: Given) -> Sae:
        read = _Reading(source, where)
        info = read.info(self, cleaned(given))
        refuse_missing(info)
        return weights.released(source, read.container, read.cfg, info, read.training)

    def save(self, sae: Sae, target: "Path", progress: Reporter) -> "list[Path]":
        return saelens_writer.save(sae, target / WEIGHTS, target / CFG, progress)

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        from saes.formats.saelens_reference import forward

        listed = known(source.tree.repo_id, where)
        return forward(source.root / where, {**listed, **cleaned(given)})


class _Reading:
    """The small files of one SAE, read once."""

    def __init__(self, source: Source, where: str) -> None:
        tree = source.tree
        if not (tree.has(where, CFG) and tree.has(where, WEIGHTS)):
            raise NotThisFormat(f"It looks for {SaeLens.looks_for}.")
        self.tree, self.where = tree, where
        self.container = read_safetensors(source, inside(where, WEIGHTS))
        _refuse_mistudio(self.container)
        raw = read_config(source, inside(where, CFG))
        if "mistudio_training_id" in raw or "mistudio_checkpoint_step" in raw:
            raise NotThisFormat("cfg.json was written by miStudio's exporter.")
        self.listed = known(tree.repo_id, where)
        self.cfg = raw if config.is_v6(raw) else migrated(raw)
        self.training = weights.read_training(source, where)

    def info(self, family: SaeLens, given: Given) -> SaeInfo:
        facts = {**family.hints(self.tree, self.where), **_facts(self.cfg, self.container, given)}
        factor = self.listed.get("norm_scaling_factor")
        listed = {name: it for name, it in self.listed.items() if name != "norm_scaling_factor"}
        facts = with_given({**facts, **as_facts(Origin.CATALOGUE, listed)}, given)
        _refuse_misstated(self.cfg.name, facts, given)
        facts |= weights.unfolded(facts, self.training, factor)
        missing = _missing(facts)
        if not missing:
            self._check(facts, given)
        files = family.files(self.tree, self.where)
        return SaeInfo(family.slug, self.where, facts, self.container.specs, files, missing)

    def _check(self, facts: Facts, given: Given) -> None:
        architecture = facts["architecture"].value
        if architecture not in config.ARCHITECTURES:
            raise UnsupportedArchitecture(
                f"`{self.cfg.name}`: {architecture[:60]} is no architecture of SAELens."
            )
        found, wanted = weights.released_shapes(self.container, self.cfg), config.shapes(facts)
        try:
            check_tensors(self.container.name, found, wanted)
        except BrokenFile as error:
            own = _architecture(self.cfg, {})
            if given.get("architecture", own) == own:
                raise
            raise BadFact(f"This is no {architecture} SAE: {error}") from error
        if "k" in facts:
            check_k(self.cfg.name, facts)


def _refuse_mistudio(container: Container) -> None:
    if any(
        name.startswith("model.") or name in ("encoder.weight", "decoder_bias")
        for name in container.members
    ):
        raise NotThisFormat("Its weights carry miStudio's tensor names.")


def _architecture(cfg: Config, given: Given) -> str:
    """As SAELens releases it, which is the only form that can be stated. Empty if unknown."""
    own = cfg.text("architecture") or ""
    if own in config.BATCH_TOPK:
        refuse_others(cfg.name, given, "architecture", [config.RELEASED])
        return config.RELEASED
    stated: str = given.get("architecture", own)
    if stated != own and is_transcoder(stated) and cfg.flag("apply_b_dec_to_input"):
        raise BadFact(f"`{cfg.name}`: apply_b_dec_to_input is true, so it is no {stated}.")
    return stated


def _refuse_misstated(name: str, facts: Facts, given: Given) -> None:
    architecture = facts["architecture"].value if "architecture" in facts else ""
    refuse_unfit(name, architecture, given, ("generation", "orientation"))
    if "norm_scaling_factor" in given:
        weights.refuse_factor(name, facts)


def _facts(cfg: Config, container: Container, given: Given) -> dict[str, Fact]:
    trained, architecture = cfg.text("architecture"), _architecture(cfg, given)
    told = {"architecture": architecture or None, **config.semantics(cfg, architecture)}
    told |= _dimensions(cfg, container, architecture)
    described = config.described(cfg.section("metadata"))
    if trained in config.BATCH_TOPK:
        described["training_architecture"] = trained
    hook = described["hook_name"] or ""
    site = "transcoder" if is_transcoder(architecture) else site_of(hook)
    place = {"layer": hook_layer(hook), "hook_type": site}
    return {
        **as_facts(Origin.CATALOGUE, config.defaults(architecture)),
        **as_facts(Origin.FILE, {**told, **described}),
        **as_facts(Origin.FILE, place),
    }


def _dimensions(cfg: Config, container: Container, architecture: str) -> dict[str, Any]:
    """cfg.json's own, so that the tensors are checked against them; else the headers'."""
    shapes, members = container.shapes, container.members
    encoder = members.get("W_enc") or members.get("W_dec")
    wide, deep = (*shapes.get("W_enc", ()), 0)[0], (*shapes.get("W_dec", ()), 0, 0)
    d_in = cfg.whole("d_in") or wide or deep[1]
    d_out = cfg.whole("d_out") or deep[1] if is_transcoder(architecture) else d_in
    dtype = dtype_words(encoder.dtype) if encoder else None
    return {"d_in": d_in, "d_sae": cfg.whole("d_sae") or deep[0], "d_out": d_out, "dtype": dtype}


def _missing(facts: Facts) -> list[MissingFact]:
    if "architecture" not in facts:
        return [ARCHITECTURE]
    return [K] if facts["architecture"].value in TOPK and "k" not in facts else []
