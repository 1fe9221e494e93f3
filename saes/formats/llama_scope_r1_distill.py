"""Llama Scope R1 distill: a threshold for each feature, as a logarithm, on the scale of training.

How training scaled activations is in the weight file, or known of the release, or asked for.
"""

import re
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from saes import reference as plain
from saes.errors import NotThisFormat
from saes.formats import lm_saes
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts
from saes.formats.catalogue import known
from saes.formats.configs import Config
from saes.formats.family import Family, Layout, Reading, Tensors, dimensions
from saes.formats.files.containers import Container
from saes.formats.files.opening import open_container
from saes.formats.files.rereading import reopen
from saes.formats.given import cleaned, with_given
from saes.formats.lm_saes import Model, Scale
from saes.formats.lm_saes_reference import BUFFERS, forward, stated

if TYPE_CHECKING:
    from saes.reference import Reference

LOG_THRESHOLD = "log_jumprelu_threshold"
LAYOUT = Layout({**lm_saes.LINEAR, "threshold": LOG_THRESHOLD}, lm_saes.TURNED)
RELEASE = re.compile(r"Llama-Scope-R1-Distill")
CONSTANTS = {
    "model_name": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    "context_size": 1024,
    "prepend_bos": True,
}


class LlamaScopeR1Distill(Family):
    slug: ClassVar[str] = "llama_scope_r1_distill"
    label: ClassVar[str] = "Llama Scope R1 distill"
    looks_for: ClassVar[str] = (
        "`config.json` beside `sae_weights.safetensors` with `log_jumprelu_threshold`"
    )

    def find(self, tree: Tree) -> list[str]:
        released = RELEASE.search(tree.repo_id or "") is not None
        return [it for it in lm_saes.folders_of(tree) if released or lm_saes.PLACE.search(it)]

    def files(self, tree: Tree, where: str) -> list[str]:
        return lm_saes.files_of(tree, where)

    def hints(self, tree: Tree, where: str) -> Facts:
        constants = CONSTANTS if RELEASE.search(tree.repo_id or "") else {}
        return {**lm_saes.letters(where), **as_facts(Origin.CATALOGUE, constants)}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        files = self.files(source.tree, where)
        if not files:
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        container = open_container(source, files[0])
        if LOG_THRESHOLD not in container.members:
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        cfg = lm_saes.config_of(source, files[0])
        if cfg.text("sae_type") not in (None, "sae"):
            raise NotThisFormat("Its sae_type is none of this release.")
        lm_saes.refuse_gates(cfg)
        transcoder = lm_saes.transcodes(cfg, given)
        lm_saes.refuse_misstated(where, cfg, given, ("jumprelu", "jumprelu_transcoder"))
        architecture = "jumprelu_transcoder" if transcoder else "jumprelu"
        shapes = lm_saes.shapes_of(LAYOUT, container, cfg)
        dims = dimensions(container.name, shapes, architecture)
        lm_saes.check_widths(cfg, dims)
        scale = _scale(source, where, container, cfg, given)
        model = Model(cfg, container, LAYOUT, transcoder, scale)
        facts = {**self.hints(source.tree, where), **model.facts(dims)}
        facts |= as_facts(Origin.FILE, {"architecture": architecture})
        facts = with_given(facts, given)
        info = SaeInfo(self.slug, where, facts, container.specs, files, model.missing)
        return Reading(info, lambda folder: _tensors(folder, model))

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        given, name = cleaned(given), self.files(source.tree, where)[0]
        told, file = stated(lm_saes.config_of(source, name).values), reopen(source.path(name))
        norms = {it.removeprefix(BUFFERS): file.number(it) for it in file.names if BUFFERS in it}
        is_scaled = told.get("norm_activation", "dataset-wise") == "dataset-wise"
        if is_scaled and not {"in", str(told.get("hook_point_in"))} & norms.keys():
            given = {**known(source.tree.repo_id, where), **given}
        return forward(
            told,
            norms,
            (file.matrix("encoder.weight").transposed, file.matrix("decoder.weight").transposed),
            file.vector("decoder.bias") if "decoder.bias" in file.names else None,
            plain.jumprelu(file.vector("encoder.bias"), np.exp(file.vector(LOG_THRESHOLD))),
            given,
        )


def _scale(
    source: Source, where: str, container: Container, cfg: Config, given: Given
) -> Scale | None:
    """The user's, else the file's, else the release's."""
    if not lm_saes.is_scaled(cfg):
        return Scale()
    transcoder, d_in = lm_saes.transcodes(cfg, given), container.shapes["encoder.weight"][1]
    norms = lm_saes.stored_norms(source, container, cfg)
    if "norm_scaling_factor" in given or norms[0] is not None:
        return lm_saes.scale_by(container.name, norms, d_in, transcoder, given)
    listed = known(source.tree.repo_id, where).get("norm_scaling_factor")
    if listed is None or transcoder:
        return None
    return Scale(listed, listed, Origin.CATALOGUE)


def _tensors(source: Folder, model: Model) -> Tensors:
    tensors = model.tensors(source)
    return {**tensors, "threshold": tensors["threshold"].mapped(lambda it, index: np.exp(it))}
