"""Gemma Scope 1: one params.npz per layer, width and sparsity; everything else is in the names.

An SAE and a transcoder look alike in every file: only the repository's name tells them apart.
SAEs on embeddings were trained on embeddings times sqrt(d_in), which is folded into the weights.
"""

import re
from collections.abc import Mapping
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar

from saes import reference as plain
from saes.errors import MissingFact, NotThisFormat
from saes.formats.architectures import check_tensors, standard_shapes
from saes.formats.base import Fact, Facts, Folder, Given, Origin, Sae, SaeInfo, Source, Tree, inside
from saes.formats.containers import Container
from saes.formats.given import cleaned, dtype_words, refuse_missing, with_given
from saes.formats.names import hints_from, site_of
from saes.formats.npz import read_npz
from saes.formats.rereading import reopen
from saes.tensors import LazyTensor

if TYPE_CHECKING:
    from saes.reference import Reference

PARAMS = "params.npz"
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
    "prepend_bos": True,
    "context_size": 1024,
    "dataset_path": "monology/pile-uncopyrighted",
}
ARCHITECTURE = MissingFact(
    "architecture",
    "SAEs and transcoders look alike and the repository's name does not tell. Which is it?",
    {
        "jumprelu": "an SAE: it rebuilds the activation that it reads",
        "jumprelu_transcoder": "a transcoder: it reads the MLP's input and predicts its output",
    },
)


class GemmaScope1:
    slug: ClassVar[str] = "gemma_scope_1"
    label: ClassVar[str] = "Gemma Scope 1"
    looks_for: ClassVar[str] = "`params.npz` in layer_N/width_W/average_l0_X folders"

    def find(self, tree: Tree) -> list[str]:
        return tree.folders_with(PARAMS)

    def files(self, tree: Tree, where: str) -> list[str]:
        return [inside(where, PARAMS)]

    def hints(self, tree: Tree, where: str) -> Facts:
        return {**hints_from(where, None), **_catalogue(tree.repo_id, where)}

    def probe(self, source: Source, where: str, given: Given) -> SaeInfo:
        container, given = self._container(source, where), cleaned(given)
        facts = {**self.hints(source.tree, where), **_constants()}
        facts |= _dimensions(container)
        site = _site(source.tree.repo_id, where, given)
        if site is not None:
            facts |= _of_site(site, facts)
        facts = with_given(facts, given)
        missing = () if "architecture" in facts else (ARCHITECTURE,)
        files = self.files(source.tree, where)
        return SaeInfo(self.slug, where, facts, container.specs, files, missing)

    def load(self, source: Folder, where: str, given: Given) -> Sae:
        info = self.probe(source, where, given)
        refuse_missing(info)
        container = self._container(source, where)
        tensors = {_standard(name): container.tensor(source, name) for name in container.members}
        return Sae(info, _unscaled(tensors) if _is_embedding(where) else tensors)

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        """From the definition: jumprelu(x @ W_enc + b_enc) @ W_dec + b_dec."""
        arrays = reopen(source.path(inside(where, PARAMS)))
        named = {_standard(name): name for name in arrays.names}
        scale = sqrt(arrays.matrix(named["W_enc"]).shape[0]) if _is_embedding(where) else 1.0
        return plain.Plain(
            encoder=arrays.matrix(named["W_enc"]),
            decoder=arrays.matrix(named["W_dec"]),
            b_dec=arrays.vector("b_dec"),
            activation=plain.jumprelu(arrays.vector("b_enc"), arrays.vector("threshold")),
            centre=cleaned(given).get("apply_b_dec_to_input", False),
            normalisation=cleaned(given).get("normalize_activations", "none"),
            input_factor=1 / scale,
            weights=scale,
        )

    def _container(self, source: Source, where: str) -> Container:
        if not source.tree.has(where, PARAMS):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        container = read_npz(source, inside(where, PARAMS))
        shapes = {_standard(name): shape for name, shape in container.shapes.items()}
        d_in, d_sae = (*shapes.get("W_enc", ()), 0, 0)[:2]
        check_tensors(
            container.name, shapes, standard_shapes("jumprelu", d_in, d_sae, _d_out(shapes))
        )
        return container


def _standard(name: str) -> str:
    """Some files say w_enc for W_enc."""
    return "W" + name[1:] if name in ("w_enc", "w_dec") else name


def _d_out(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return (*shapes.get("b_dec", ()), 0)[0]


def _is_embedding(where: str) -> bool:
    return "embedding" in where.split("/")


def _unscaled(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    root = sqrt(tensors["W_enc"].shape[0])
    encoder, decoder = tensors["W_enc"].scaled(1 / root), tensors["W_dec"].scaled(root)
    return {**tensors, "W_enc": encoder, "W_dec": decoder}


def _catalogue(repo_id: str | None, where: str) -> Facts:
    found = REPO.search(repo_id or "")
    facts: dict[str, Any] = {}
    if found:
        facts["model_name"] = f"gemma-2-{found[1]}" + ("-it" if found[2] == "it" else "")
    site = _site(repo_id, where, {})
    if site is not None:
        facts["hook_type"] = site
    return {name: Fact(value, Origin.CATALOGUE) for name, value in facts.items()}


def _site(repo_id: str | None, where: str, given: Given) -> str | None:
    if given.get("architecture") == "jumprelu_transcoder":
        return "transcoder"
    if given.get("hook_name"):
        return (
            "transcoder" if "hook_normalized" in given["hook_name"] else site_of(given["hook_name"])
        )
    if _is_embedding(where):
        return "embedding"
    found = REPO.search(repo_id or "")
    return SITES.get(found[3]) if found and found[3] else None


def _constants() -> dict[str, Fact]:
    return {name: Fact(value, Origin.CATALOGUE) for name, value in CONSTANTS.items()}


def _dimensions(container: Container) -> dict[str, Fact]:
    shapes = {_standard(name): member for name, member in container.members.items()}
    d_in, d_sae = shapes["W_enc"].shape
    dtype = dtype_words(shapes["W_enc"].dtype)
    told = {"d_in": d_in, "d_sae": d_sae, "d_out": shapes["b_dec"].shape[0], "dtype": dtype}
    return {name: Fact(value, Origin.FILE) for name, value in told.items()}


def _of_site(site: str, facts: Facts) -> dict[str, Fact]:
    layer = facts["layer"].value if "layer" in facts else None
    told: dict[str, Any] = {
        "hook_type": site,
        "architecture": "jumprelu_transcoder" if site == "transcoder" else "jumprelu",
        "reshape_activations": "hook_z" if site == "attention" else "none",
    }
    if site == "embedding":
        told |= {"hook_name": HOOKS[site], "layer": 0}
    elif layer is not None:
        told["hook_name"] = HOOKS[site].format(layer)
        if site == "transcoder":
            told["hook_name_out"] = f"blocks.{layer}.hook_mlp_out"
    return {name: Fact(value, Origin.CATALOGUE) for name, value in told.items()}
