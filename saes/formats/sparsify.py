"""sparsify (EleutherAI): cfg.json beside sae.safetensors, in a folder named after its hookpoint.

W_dec is stored [d_sae, d_in] already; only encoder.weight is turned. A transcoder saved before
cfg.json told of it is announced by the run's config.json alone, and subtracts b_dec all the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from saes.errors import BrokenFile, NotThisFormat, TooLarge
from saes.formats import sparsify_hookpoints as hookpoints
from saes.formats.base import (
    ROOT,
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
    parent,
)
from saes.formats.configs import Config, read_config
from saes.formats.family import Family, Layout, Reading, Tensors, dimensions
from saes.formats.files.containers import Container
from saes.formats.files.opening import open_container
from saes.formats.given import K, refuse_not_plain
from saes.formats.single import stated
from saes.progress import Reporter
from saes.tensors import Held, vector_times

if TYPE_CHECKING:
    from saes.reference import Reference

CFG, WEIGHTS, RUN = "cfg.json", "sae.safetensors", "config.json"
NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}
SKIP = "W_skip"
PRESENT = Layout({**NAMES, SKIP: SKIP}, turned=("W_enc",))
LEGACY = Layout({**NAMES, "W_dec": "decoder.weight", SKIP: SKIP}, turned=("W_enc", "W_dec"))
OWN_KEYS = ("expansion_factor", "num_latents", "normalize_decoder", "multi_topk")  # one of these
ACTIVATIONS = ("topk", "groupmax")


class Sparsify(Family):
    slug: ClassVar[str] = "sparsify"
    label: ClassVar[str] = "sparsify"
    looks_for: ClassVar[str] = "`cfg.json` beside `sae.safetensors`"

    architectures: ClassVar[Sequence[str]] = ("topk", "topk_transcoder", "topk_skip_transcoder")

    def find(self, tree: Tree) -> list[str]:
        return tree.folders_with(CFG, WEIGHTS)

    def files(self, tree: Tree, where: str) -> list[str]:
        weights = where if where in tree.names else inside(where, WEIGHTS)
        beside = (inside(parent(weights), CFG), _run_config(tree, parent(weights)))
        return [weights, *(name for name in beside if name in tree.names)]

    def hints(self, tree: Tree, where: str) -> Facts:
        return hookpoints.hints(where, tree.repo_id)

    def read(self, source: Source, where: str, given: Given) -> Reading:
        stored = _opened(source, where)
        place = hookpoints.placed(where, source.tree.repo_id, stored.run, stored.transcodes)
        facts = stated(stored.config.name, {**place, **_facts(stored)}, given)
        missing = () if "k" in facts else (K,)
        files = self.files(source.tree, where)
        info = SaeInfo(self.slug, where, facts, stored.container.specs, files, missing)
        return Reading(info, lambda folder: _tensors(folder, stored))

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        from saes.formats.sparsify_reference import forward

        info = self.probe(source, where, given)
        refuse_not_plain(info)
        stored = _opened(source, where)
        return forward(source.path(stored.container.name), stored.config.values, info)

    def save(self, sae: Sae, target: Path, progress: Reporter) -> list[Path]:
        from saes.formats.sparsify_writer import save

        return save(sae, target, progress)


@dataclass(frozen=True)
class _Stored:
    container: Container
    config: Config
    run: Config | None  # of the whole training run

    @property
    def layout(self) -> Layout:
        return PRESENT if "W_dec" in self.container.members else LEGACY

    @property
    def skips(self) -> bool:
        return bool(self.config.flag("skip_connection"))

    @property
    def transcodes(self) -> bool:
        return bool(self.config.flag("transcode") or self.was_transcoder)

    @property
    def was_transcoder(self) -> bool:
        """By the run's config.json: of the months before cfg.json told."""
        if self.run is None or self.config.flag("transcode") is not None:
            return False
        return bool(self.run.flag("transcode"))

    @property
    def architecture(self) -> str:
        signed = _is_signed(self.config)
        if _activation(self.config) == "groupmax":
            return "groupmax"
        if self.skips:
            return "topk_skip_transcoder"
        if self.transcodes:
            return "topk_transcoder"
        return "abstopk" if signed else "topk"

    @property
    def folds(self) -> bool:
        """Whether b_dec has to go into b_enc: no transcoder of the neutral form subtracts it."""
        return self.architecture.endswith("transcoder") and not self.config.flag("transcode")


def _opened(source: Source, where: str) -> _Stored:
    tree = source.tree
    named = tree.has(where, WEIGHTS)
    name = inside(where, WEIGHTS) if named else where
    cfg = inside(parent(name), CFG)
    if name not in tree.names or not (named or cfg in tree.names):
        raise NotThisFormat(f"It looks for {Sparsify.looks_for}.")
    config = _read_config(source, cfg, named)
    if not any(key in config for key in OWN_KEYS):
        raise NotThisFormat("cfg.json is not sparsify's.")
    container = open_container(source, name)
    if NAMES["W_enc"] not in container.members:
        raise NotThisFormat("Its tensors are not sparsify's.")
    return _Stored(container, config, _read_run(source, parent(name)))


def _read_config(source: Source, name: str, named: bool) -> Config:
    try:
        return read_config(source, name)
    except (BrokenFile, TooLarge) as error:
        if named:
            raise
        raise NotThisFormat("cfg.json is not sparsify's.") from error


def _run_config(tree: Tree, folder: str) -> str:
    """The nearest config.json: a hookpoint's folder, its seed's or its run's."""
    for _ in range(3):
        if tree.has(folder, RUN) or folder == ROOT:
            break
        folder = parent(folder)
    return inside(folder, RUN)


def _read_run(source: Source, folder: str) -> Config | None:
    name = _run_config(source.tree, folder)
    if name not in source.tree.names:
        return None
    run = read_config(source, name)
    return run if isinstance(run.values.get("sae"), dict) else None


def _facts(stored: _Stored) -> Facts:
    config, container, layout = stored.config, stored.container, stored.layout
    architecture = stored.architecture
    shape = architecture if architecture != "groupmax" else "topk"
    shapes = layout.shapes(container)
    sizes = dimensions(container.name, shapes, shape)
    _check_sizes(config, sizes)
    told = {"architecture": architecture, **sizes, "dtype": layout.dtype(container)}
    told |= {"k": config.whole("k")}
    constants = {
        "apply_b_dec_to_input": not stored.transcodes and not stored.folds,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    return {
        **as_facts(Origin.CATALOGUE, constants),
        **as_facts(Origin.FILE, told),
    }


def _activation(config: Config) -> str:
    activation = config.text("activation")
    if activation is None or activation in ACTIVATIONS:
        return activation or "topk"
    raise config.wrong("activation", "one of " + ", ".join(ACTIVATIONS))


def _is_signed(config: Config) -> bool:
    """Of the first two months; nothing that came later was ever signed."""
    later = ("activation", "transcode", "skip_connection")
    if config.flag("signed") and any(config.values.get(key) for key in later):
        raise config.wrong("signed", "false beside " + ", ".join(later))
    return bool(config.flag("signed"))


def _check_sizes(config: Config, sizes: Mapping[str, Any]) -> None:
    d_in, latents = config.whole("d_in"), config.whole("num_latents", least=0)
    if d_in not in (None, sizes["d_in"]):
        raise BrokenFile(f"`{config.name}`: d_in is {d_in}, the weights have {sizes['d_in']}.")
    factor = config.whole("expansion_factor")
    wanted = latents or (factor and factor * sizes["d_in"])
    if wanted not in (None, sizes["d_sae"]):
        raise BrokenFile(
            f"`{config.name}` tells of {wanted} latents, the weights have {sizes['d_sae']}."
        )


def _tensors(folder: Folder, stored: _Stored) -> Tensors:
    tensors = stored.layout.tensors(folder, stored.container)
    if stored.folds:
        b_enc, shift = tensors["b_enc"], vector_times(tensors["b_dec"].all(), tensors["W_enc"])
        tensors["b_enc"] = Held(b_enc.all() - shift, "F64" if b_enc.dtype == "F64" else "F32")
    return tensors
