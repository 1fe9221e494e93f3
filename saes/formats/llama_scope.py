"""Llama Scope: hyperparams.json beside checkpoints/final.safetensors.

One threshold for all features, on the scale of a model's own activations; the weights are on the
scale of training. Both are brought together by the factor that lies between the two.
"""

import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saes import reference as plain
from saes.errors import NotThisFormat, UnsupportedArchitecture
from saes.formats import lm_saes
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts, inside
from saes.formats.configs import Config, read_config
from saes.formats.family import Family, Layout, Reading, Tensors, dimensions
from saes.formats.files.containers import Container
from saes.formats.files.opening import open_container
from saes.formats.files.rereading import reopen
from saes.formats.given import cleaned, with_given
from saes.formats.lm_saes import Model, Scale
from saes.formats.lm_saes_reference import factors, forward, stated
from saes.tensors import WIDER, Held

if TYPE_CHECKING:
    from saes.reference import Reference

HYPERPARAMS, WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"
AVERAGE = "dataset_average_activation_norm"
LAYOUT = Layout(lm_saes.LINEAR, lm_saes.TURNED)
MODEL = re.compile(r"Llama3_1-8B-Base")
RELEASE = {
    "model_name": "meta-llama/Llama-3.1-8B",
    "dataset_path": "cerebras/SlimPajama-627B",
    "context_size": 1024,
    "prepend_bos": True,
}


class LlamaScope(Family):
    slug: ClassVar[str] = "llama_scope"
    label: ClassVar[str] = "Llama Scope"
    looks_for: ClassVar[str] = "`hyperparams.json` and `checkpoints/final.safetensors`"

    def find(self, tree: Tree) -> list[str]:
        folders = tree.folders_with(HYPERPARAMS)
        return [it for it in folders if inside(it, WEIGHTS) in tree.names]

    def files(self, tree: Tree, where: str) -> list[str]:
        return [inside(where, HYPERPARAMS), inside(where, WEIGHTS)]

    def hints(self, tree: Tree, where: str) -> Facts:
        release = RELEASE if MODEL.search(f"{tree.repo_id or ''}/{where}") else {}
        return {**lm_saes.letters(where), **as_facts(Origin.CATALOGUE, release)}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        files = self.files(source.tree, where)
        if not set(files) <= source.tree.names:
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        cfg, container = read_config(source, files[0]), open_container(source, files[1])
        _refuse_others(cfg)
        transcoder = lm_saes.transcodes(cfg, given)
        lm_saes.refuse_misstated(where, cfg, given, ("jumprelu", "jumprelu_transcoder"))
        architecture = "jumprelu_transcoder" if transcoder else "jumprelu"
        dims = _dimensions(container, cfg, architecture)
        scale = _scale(cfg, dims["d_in"], transcoder, given)
        model = Model(cfg, container, LAYOUT, transcoder, scale)
        facts = {**self.hints(source.tree, where), **model.facts(dims)}
        facts |= as_facts(Origin.FILE, {"architecture": architecture})
        facts = with_given(facts, given)
        info = SaeInfo(self.slug, where, facts, container.specs, files, model.missing)
        return Reading(info, lambda folder: _tensors(folder, model))

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        """The threshold is compared with unscaled sums: times the factor, with scaled ones."""
        given, files = cleaned(given), self.files(source.tree, where)
        told, file = stated(read_config(source, files[0]).values), reopen(source.path(files[1]))
        encoder, decoder = (file.matrix(f"{it}.weight").transposed for it in ("encoder", "decoder"))
        norms = stated(told.get(AVERAGE, {}))
        threshold = told["jump_relu_threshold"] * factors(told, norms, encoder.shape[0], given)[0]
        return forward(
            told,
            norms,
            (encoder, decoder),
            file.vector("decoder.bias") if "decoder.bias" in file.names else None,
            plain.jumprelu(file.vector("encoder.bias"), threshold),
            given,
        )


def _refuse_others(cfg: Config) -> None:
    lm_saes.refuse_gates(cfg)
    act_fn = cfg.text("act_fn") or "jumprelu"
    if act_fn.lower() != "jumprelu":
        raise UnsupportedArchitecture(f"`{cfg.name}`: act_fn {act_fn[:40]} is not jumprelu.")
    if cfg.text("norm_activation") == "token-wise":
        raise UnsupportedArchitecture(
            f"`{cfg.name}`: norm_activation token-wise leaves open what jump_relu_threshold is."
        )
    if cfg.number("jump_relu_threshold") is None:
        raise cfg.wrong("jump_relu_threshold", "a number")


def _dimensions(container: Container, cfg: Config, architecture: str) -> dict[str, Any]:
    shapes = lm_saes.shapes_of(LAYOUT, container, cfg)
    if "b_enc" in shapes:
        shapes["threshold"] = shapes["b_enc"]
    dims = dimensions(container.name, shapes, architecture)
    lm_saes.check_widths(cfg, dims)
    return dims


def _scale(cfg: Config, d_in: int, transcoder: bool, given: Given) -> Scale | None:
    if not lm_saes.is_scaled(cfg):
        return Scale()
    norms = cfg.section(AVERAGE)
    told = [norms.number("in"), norms.number("out")]
    return lm_saes.scale_by(cfg.name, told, d_in, transcoder, given)


def _tensors(source: Folder, model: Model) -> Tensors:
    tensors, into = model.tensors(source), model.scale.into if model.scale else 1.0
    encoder = tensors["W_enc"]
    threshold = np.full(encoder.shape[1], model.cfg.values["jump_relu_threshold"] * into)
    return {**tensors, "threshold": Held(threshold, WIDER[encoder.dtype])}
