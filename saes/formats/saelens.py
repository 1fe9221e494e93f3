"""SAELens native, versions 2 to 6 and training checkpoints: cfg.json beside the weights.

The tensors are the standard ones, so reading is naming; the care goes into cfg.json, and into what
a training checkpoint has not folded into its weights yet.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from saes.errors import BrokenFile, MissingFact, NotThisFormat, UnsupportedArchitecture
from saes.formats import saelens_weights as weights
from saes.formats.architectures import (
    NORMALISATIONS,
    NOT_PLAIN,
    PLAIN,
    TOPK,
    check_tensors,
    is_transcoder,
    standard_shapes,
)
from saes.formats.base import Fact, Facts, Folder, Given, Origin, Sae, SaeInfo, Source, Tree, inside
from saes.formats.configs import Config, read_config
from saes.formats.containers import Container, read_safetensors
from saes.formats.given import K, cleaned, dtype_words, refuse_missing, with_given
from saes.formats.names import hints_from, hook_layer, site_of
from saes.formats.saelens_legacy import described, migrated

if TYPE_CHECKING:
    from saes.reference import Reference

CFG, WEIGHTS, SPARSITY = "cfg.json", "sae_weights.safetensors", "sparsity.safetensors"
BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")
ARCHITECTURE = MissingFact(
    "architecture", "Which architecture is it? cfg.json does not say.", dict.fromkeys(PLAIN, "")
)


class SaeLens:
    slug: ClassVar[str] = "saelens"
    label: ClassVar[str] = "SAELens"
    looks_for: ClassVar[str] = "`cfg.json` beside `sae_weights.safetensors`"

    def find(self, tree: Tree) -> list[str]:
        return tree.folders_with(CFG, WEIGHTS)

    def files(self, tree: Tree, where: str) -> list[str]:
        wanted = (CFG, WEIGHTS, SPARSITY, weights.SCALER)
        return [inside(where, base) for base in wanted if tree.has(where, base)]

    def hints(self, tree: Tree, where: str) -> Facts:
        return hints_from(where, tree.repo_id)

    def probe(self, source: Source, where: str, given: Given) -> SaeInfo:
        return _Folder(source, where).info(self, cleaned(given))

    def load(self, source: Folder, where: str, given: Given) -> Sae:
        read = _Folder(source, where)
        info = read.info(self, cleaned(given))
        refuse_missing(info)
        architecture = info.get("architecture")
        if architecture not in PLAIN:
            raise UnsupportedArchitecture(
                f"`{read.cfg.name}`: a {architecture} SAE is no plain dictionary."
            )
        return weights.standard(source, read.container, read.cfg, info, read.scaler)

    def reference(self, folder: Path, where: str, given: Given) -> "Reference":
        from saes.formats.saelens_reference import forward

        return forward(folder / where, cleaned(given))


class _Folder:
    """The three small files of one SAE, read once."""

    def __init__(self, source: Source, where: str) -> None:
        tree = source.tree
        if not (tree.has(where, CFG) and tree.has(where, WEIGHTS)):
            raise NotThisFormat(f"It looks for {SaeLens.looks_for}.")
        self.tree, self.where = tree, where
        self.container = read_safetensors(source, inside(where, WEIGHTS))
        if any(
            name.startswith("model.") or name in ("encoder.weight", "decoder_bias")
            for name in self.container.members
        ):
            raise NotThisFormat("Its weights carry miStudio's tensor names.")
        raw = read_config(source, inside(where, CFG))
        if "mistudio_training_id" in raw or "mistudio_checkpoint_step" in raw:
            raise NotThisFormat("cfg.json was written by miStudio's exporter.")
        self.cfg = raw if _is_v6(raw) else migrated(raw)
        self.scaler = (
            weights.read_scaler(source, inside(where, weights.SCALER))
            if tree.has(where, weights.SCALER)
            else None
        )

    def info(self, family: SaeLens, given: Given) -> SaeInfo:
        facts = {**family.hints(self.tree, self.where), **_facts(self.cfg, self.container, given)}
        facts |= weights.unfolded(self.cfg, self.scaler, given)
        facts = with_given(facts, given)
        missing = _missing(facts)
        if not missing:
            self._check(facts)
        files = family.files(self.tree, self.where)
        return SaeInfo(family.slug, self.where, facts, self.container.specs, files, missing)

    def _check(self, facts: Facts) -> None:
        architecture = facts["architecture"].value
        if architecture in NOT_PLAIN:
            return
        if architecture not in PLAIN:
            raise UnsupportedArchitecture(
                f"`{self.cfg.name}`: {architecture[:60]} is no architecture of SAELens."
            )
        dims = [facts[name].value for name in ("d_in", "d_sae", "d_out")]
        wanted = standard_shapes(architecture, *dims)
        check_tensors(self.container.name, weights.as_released(self.container, self.cfg), wanted)


def _is_v6(cfg: Config) -> bool:
    version = cfg.section("metadata").text("sae_lens_version") or cfg.text("sae_lens_version") or ""
    found = re.match(r"(\d+)\.", version)
    return found is not None and int(found[1]) >= 6


def _facts(cfg: Config, container: Container, given: Given) -> dict[str, Fact]:
    architecture = given.get("architecture") or cfg.text("architecture")
    released = "jumprelu" if architecture in BATCH_TOPK else architecture
    told: dict[str, Any] = {"architecture": released, **_semantics(cfg, architecture or "")}
    told |= _dimensions(cfg, container, architecture or "")
    metadata = cfg.section("metadata")
    told |= described(metadata)
    told["training_architecture"] = metadata.text("training_architecture") or (
        architecture if architecture in BATCH_TOPK else None
    )
    hook = told.get("hook_name") or ""
    told |= {"layer": hook_layer(hook), "hook_type": _site(architecture or "", hook)}
    facts = {name: Fact(value, Origin.FILE) for name, value in told.items() if value is not None}
    return {**_defaults(architecture or ""), **facts}


def _site(architecture: str, hook: str) -> str | None:
    return "transcoder" if is_transcoder(architecture) else site_of(hook)


def _semantics(cfg: Config, architecture: str) -> dict[str, Any]:
    centred = cfg.flag("apply_b_dec_to_input")
    if centred and is_transcoder(architecture):
        raise BrokenFile(f"`{cfg.name}`: apply_b_dec_to_input should be false for a transcoder.")
    told: dict[str, Any] = {
        "apply_b_dec_to_input": centred,
        "normalize_activations": _word(cfg, "normalize_activations", NORMALISATIONS),
        "reshape_activations": _word(cfg, "reshape_activations", ("none", "hook_z")),
    }
    if architecture in TOPK:
        told |= {
            "k": cfg.whole("k"),
            "rescale_acts_by_decoder_norm": cfg.flag("rescale_acts_by_decoder_norm"),
        }
    return told


def _word(cfg: Config, key: str, words: Sequence[str]) -> str | None:
    value = cfg.text(key)
    if (
        (value is None and key not in cfg)
        or value in words
        or cfg.text("architecture") in NOT_PLAIN
    ):
        return value
    raise cfg.wrong(key, "one of " + ", ".join(words))


def _defaults(architecture: str) -> dict[str, Fact]:
    """What SAELens takes where cfg.json is silent. Not its k = 100: that is a guess."""
    told: dict[str, Any] = {
        "apply_b_dec_to_input": not is_transcoder(architecture),
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    if architecture in TOPK:
        told["rescale_acts_by_decoder_norm"] = False
    return {name: Fact(value, Origin.CATALOGUE) for name, value in told.items()}


def _dimensions(cfg: Config, container: Container, architecture: str) -> dict[str, Any]:
    """cfg.json's own, so that the tensors are checked against them; else the headers'."""
    encoder = container.members.get("W_enc") or container.members.get("W_dec")
    shapes = container.shapes
    wide, out = (*shapes.get("W_enc", ()), 0, 0), (*shapes.get("b_dec", ()), 0)
    d_in = cfg.whole("d_in") or wide[0]
    return {
        "d_in": d_in,
        "d_sae": cfg.whole("d_sae") or wide[1],
        "d_out": cfg.whole("d_out") or out[0] if is_transcoder(architecture) else d_in,
        "dtype": dtype_words(encoder.dtype) if encoder else None,
    }


def _missing(facts: Facts) -> list[MissingFact]:
    if "architecture" not in facts:
        return [ARCHITECTURE]
    return [K] if facts["architecture"].value in TOPK and "k" not in facts else []
