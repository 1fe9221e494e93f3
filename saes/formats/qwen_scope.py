"""Qwen Scope: one file layer{L}.sae.pt for each layer; model and k are in the repository's name.

The names are the community's, yet both matrices are transposed: W_enc [d_sae, d_in].
"""

import re
from typing import Any, ClassVar

from saes.errors import NotThisFormat
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts
from saes.formats.family import Family, Layout, Reading, dimensions
from saes.formats.given import K
from saes.formats.single import base_of, linear_reference, opened, stated
from saes.reference import Reference

LAYOUT = Layout(
    {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}, turned=("W_enc", "W_dec")
)
FILE = re.compile(r"layer(\d+)\.sae\.pt")
REPO = re.compile(r"SAE-Res-(.+)-W(\d+K)-L0_(\d+)$")
CONSTANTS = {
    "architecture": "topk",
    "apply_b_dec_to_input": False,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "hook_type": "residual",
    "context_size": 1024,
    "prepend_bos": True,
}


class QwenScope(Family):
    slug: ClassVar[str] = "qwen_scope"
    label: ClassVar[str] = "Qwen Scope"
    looks_for: ClassVar[str] = "`layer0.sae.pt`, `layer1.sae.pt`, …"

    def find(self, tree: Tree) -> list[str]:
        return sorted(name for name in tree.names if FILE.fullmatch(base_of(name)))

    def files(self, tree: Tree, where: str) -> list[str]:
        return [where]

    def hints(self, tree: Tree, where: str) -> Facts:
        layer, repo = FILE.fullmatch(base_of(where)), REPO.search(tree.repo_id or "")
        told: dict[str, Any] = {"hook_type": "residual"}
        if layer:
            told |= {"layer": int(layer[1]), "hook_name": f"blocks.{layer[1]}.hook_resid_post"}
        if repo:
            told |= {"model_name": f"Qwen/{repo[1]}", "width": repo[2].lower(), "k": int(repo[3])}
        return as_facts(Origin.PATH, told)

    def read(self, source: Source, where: str, given: Given) -> Reading:
        if not (FILE.fullmatch(base_of(where)) or REPO.search(source.tree.repo_id or "")):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        container = opened(source, where, self.looks_for, *LAYOUT.names)
        found = dimensions(container.name, LAYOUT.shapes(container), "topk")
        facts = {
            **self.hints(source.tree, where),
            **as_facts(Origin.CATALOGUE, CONSTANTS),
            **as_facts(Origin.FILE, {**found, "dtype": LAYOUT.dtype(container)}),
        }
        told = stated(where, facts, given)
        missing = () if "k" in told else (K,)
        info = SaeInfo(self.slug, where, told, container.specs, [where], missing)
        return Reading(info, lambda folder: LAYOUT.tensors(folder, container))

    def reference(self, source: Folder, where: str, given: Given) -> Reference:
        """The k largest of W_enc @ x + b_enc, then ReLU; W_dec @ acts + b_dec."""
        names = {"encoder": "W_enc", "b_enc": "b_enc", "decoder": "W_dec", "b_dec": "b_dec"}
        return linear_reference(source, self.probe(source, where, given), names)
