"""Gemma Scope 1: one params.npz per layer, width and sparsity; everything else is in the names.

An SAE and a transcoder look alike in every file: only the repository's name tells them apart.
SAEs on embeddings were trained on embeddings times sqrt(d_in), which is folded into the weights.
"""

import re
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saes import reference as plain
from saes.errors import BrokenFile, MissingFact, NotThisFormat
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts, inside
from saes.formats.family import Family, Layout, Reading, Tensors, dimensions
from saes.formats.files.containers import Container
from saes.formats.files.opening import open_container
from saes.formats.files.rereading import reopen
from saes.formats.folding import divided, times
from saes.formats.gemma_scope_stated import refuse_misstated
from saes.formats.given import cleaned, with_given
from saes.formats.names import hints_from, site_of

if TYPE_CHECKING:
    from saes.reference import Reference

PARAMS = "params.npz"
SCALING = "scaling_factor"
REPO = re.compile(r"(?:^|/)gemma-scope-(2b|9b|27b)-(pt|it)-?(res|mlp|att|transcoders)?(?=$|[-_])")
SITES = {"res": "residual", "mlp": "mlp", "att": "attention", "transcoders": "transcoder"}
HOOKS = {
    "residual": "blocks.{}.hook_resid_post",
    "mlp": "blocks.{}.hook_mlp_out",
    "attention": "blocks.{}.attn.hook_z",
    "embedding": "hook_embed",
    "transcoder": "blocks.{}.ln2.hook_normalized",
}
CONSTANTS = {
    "apply_b_dec_to_input": False,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "prepend_bos": True,
    "context_size": 1024,
    "dataset_path": "monology/pile-uncopyrighted",
}
ARCHITECTURE = MissingFact(
    "architecture",
    "SAEs and transcoders look alike and the names do not tell. Which is it? "
    "If it reads embeddings, give hook_name hook_embed, too: those were scaled in training.",
    {
        "jumprelu": "an SAE: it rebuilds the activation that it reads",
        "jumprelu_transcoder": "a transcoder: it reads the MLP's input and predicts its output",
    },
)


class GemmaScope1(Family):
    slug: ClassVar[str] = "gemma_scope_1"
    label: ClassVar[str] = "Gemma Scope 1"
    looks_for: ClassVar[str] = "`params.npz` in `layer_N/width_W/average_l0_X/`"

    def find(self, tree: Tree) -> list[str]:
        return tree.folders_with(PARAMS)

    def files(self, tree: Tree, where: str) -> list[str]:
        return [_file(tree, where)]

    def hints(self, tree: Tree, where: str) -> Facts:
        found = REPO.search(tree.repo_id or "")
        model = f"gemma-2-{found[1]}" + ("-it" if found[2] == "it" else "") if found else None
        site = _site(tree.repo_id, where, {})
        layer = 0 if site == "embedding" else None
        told = {"model_name": model, "hook_type": site, "layer": layer}
        return {**hints_from(where, None), **as_facts(Origin.CATALOGUE, told)}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        container = self._container(source, where)
        layout, site = _layout(container), _site(source.tree.repo_id, where, given)
        told = _architecture(site)
        refuse_misstated(where, given, [*ARCHITECTURE.readings], told, site == "embedding")
        facts = {**self.hints(source.tree, where), **as_facts(Origin.CATALOGUE, CONSTANTS)}
        if site is not None:
            layer = facts["layer"].value if "layer" in facts else None
            facts |= as_facts(Origin.CATALOGUE, _of_site(site, given.get("layer", layer)))
        facts = with_given(facts, given)
        facts |= as_facts(Origin.FILE, _dimensions(container, layout))
        missing = () if "architecture" in facts else (ARCHITECTURE,)
        info = SaeInfo(self.slug, where, facts, container.specs, [container.name], missing)
        return Reading(info, lambda folder: _tensors(folder, container, layout, site))

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        """From the definition: jumprelu(x @ W_enc + b_enc) @ W_dec + b_dec."""
        given, arrays = cleaned(given), reopen(source.path(_file(source.tree, where)))
        encoder, decoder = (
            arrays.matrix(f"w{name}" if f"w{name}" in arrays.names else f"W{name}")
            for name in ("_enc", "_dec")
        )
        site = _site(source.tree.repo_id, where, given)
        scale = sqrt(encoder.shape[0]) if site == "embedding" else 1.0
        return plain.Plain(
            encoder=encoder,
            decoder=decoder,
            b_dec=arrays.vector("b_dec"),
            activation=plain.jumprelu(arrays.vector("b_enc"), arrays.vector("threshold")),
            centre=given.get("apply_b_dec_to_input", False),
            normalisation=given.get("normalize_activations", "none"),
            input_factor=1 / scale,
            weights=scale,
            transcodes=site == "transcoder",
        )

    def _container(self, source: Source, where: str) -> Container:
        name = _file(source.tree, where)
        if name not in source.tree.names:
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        container = open_container(source, name)
        if not name.endswith(PARAMS) and not _layout(container).knows(container):
            raise NotThisFormat("Its arrays are not those of Gemma Scope 1.")
        return container


def _file(tree: Tree, where: str) -> str:
    """A copy may have any name, as long as it is an npz."""
    return where if where.endswith(".npz") and where in tree.names else inside(where, PARAMS)


def _layout(container: Container) -> Layout:
    """Some files say w_enc for W_enc."""
    names = {name: name for name in ("b_enc", "b_dec", "threshold")}
    for low, name in (("w_enc", "W_enc"), ("w_dec", "W_dec")):
        names[name] = low if low in container.members else name
    return Layout(names)


def _site(repo_id: str | None, where: str, given: Given) -> str | None:
    if given.get("architecture") == "jumprelu_transcoder":
        return "transcoder"
    if given.get("hook_name"):
        hook = given["hook_name"]
        return "transcoder" if "hook_normalized" in hook else site_of(hook)
    if "embedding" in where.split("/"):
        return "embedding"
    found = REPO.search(repo_id or "")
    site = SITES.get(found[3]) if found else None
    return None if site == "transcoder" and given.get("architecture") else site


def _architecture(site: str | None) -> str:
    return "jumprelu_transcoder" if site == "transcoder" else "jumprelu"


def _of_site(site: str, layer: int | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "hook_type": site,
        "architecture": _architecture(site),
        "reshape_activations": "hook_z" if site == "attention" else "none",
    }
    if site == "embedding":
        told |= {"hook_name": HOOKS[site], "layer": 0}
    elif layer is not None:
        told["hook_name"] = HOOKS[site].format(layer)
        if site == "transcoder":
            told["hook_name_out"] = f"blocks.{layer}.hook_mlp_out"
    return told


def _dimensions(container: Container, layout: Layout) -> dict[str, Any]:
    """A transcoder writes as wide as it reads, so the shapes are those of an SAE."""
    shapes = layout.shapes(container)
    if shapes.get(SCALING) == shapes.get("b_enc"):
        shapes.pop(SCALING, None)
    return {**dimensions(container.name, shapes, "jumprelu"), "dtype": layout.dtype(container)}


def _tensors(source: Folder, container: Container, layout: Layout, site: str | None) -> Tensors:
    tensors = layout.tensors(source, container)
    if SCALING in container.members:
        _refuse_scaling(source, container)
    if site != "embedding":
        return tensors
    root = sqrt(tensors["W_enc"].shape[0])
    folded = {"W_enc": divided(tensors["W_enc"], root), "W_dec": times(tensors["W_dec"], root)}
    return {**tensors, **folded}


def _refuse_scaling(source: Folder, container: Container) -> None:
    """Left from fine-tuning: without effect while it is all ones."""
    if not np.allclose(container.tensor(source, SCALING).all(), 1):
        raise BrokenFile(f"`{container.name}`: {SCALING} is not 1, and nothing says if it is used.")
