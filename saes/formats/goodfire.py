"""Goodfire: one PyTorch file with two linear layers, encoder_linear and decoder_linear.

The decoder's bias is only added at the end, never subtracted from the input.
"""

import re
from typing import Any, ClassVar

from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts
from saes.formats.family import Family, Layout, Reading, dimensions
from saes.formats.single import TORCH, base_of, linear_reference, opened, stated
from saes.reference import Reference

NAMES = {
    "W_enc": "encoder_linear.weight",
    "b_enc": "encoder_linear.bias",
    "W_dec": "decoder_linear.weight",
    "b_dec": "decoder_linear.bias",
}
LAYOUT = Layout(NAMES, turned=("W_enc", "W_dec"))
PUBLISHED = re.compile(r"(?:^|/)([A-Za-z][A-Za-z0-9.\-]*)-SAE-l(\d+)(?=$|\.pth?$)")
SEMANTICS = {
    "architecture": "standard",
    "apply_b_dec_to_input": False,
    "normalize_activations": "none",
    "reshape_activations": "none",
}


class Goodfire(Family):
    slug: ClassVar[str] = "goodfire"
    label: ClassVar[str] = "Goodfire"
    looks_for: ClassVar[str] = "a `.pt` or `.pth` file with `encoder_linear` and `decoder_linear`"

    def find(self, tree: Tree) -> list[str]:
        ours = (tree.repo_id or "").startswith("Goodfire/")
        return sorted(
            name
            for name in tree.names
            if name.endswith(TORCH)
            and (ours or base_of(name).startswith("Llama-"))
            and PUBLISHED.search(base_of(name))
        )

    def files(self, tree: Tree, where: str) -> list[str]:
        return [where]

    def hints(self, tree: Tree, where: str) -> Facts:
        return {**super().hints(tree, where), **_published(tree.repo_id, where)}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        container = opened(source, where, self.looks_for, *NAMES.values())
        shapes = LAYOUT.shapes(container)
        found = dimensions(container.name, shapes, "standard")
        facts = {
            **self.hints(source.tree, where),
            **as_facts(Origin.CATALOGUE, SEMANTICS),
            **as_facts(Origin.FILE, {**found, "dtype": LAYOUT.dtype(container)}),
        }
        info = SaeInfo(self.slug, where, stated(where, facts, given), container.specs, [where])
        return Reading(info, lambda folder: LAYOUT.tensors(folder, container))

    def reference(self, source: Folder, where: str, given: Given) -> Reference:
        layers = {
            "encoder": "encoder_linear.weight",
            "b_enc": "encoder_linear.bias",
            "decoder": "decoder_linear.weight",
            "b_dec": "decoder_linear.bias",
        }
        return linear_reference(source, self.probe(source, where, given), layers)


def _published(repo_id: str | None, where: str) -> Facts:
    found = PUBLISHED.search(where) or PUBLISHED.search(repo_id or "")
    if found is None:
        return {}
    told: dict[str, Any] = {
        "model_name": f"meta-llama/{found[1]}" if found[1].startswith("Llama-") else None,
        "layer": int(found[2]),
        "hook_name": f"blocks.{found[2]}.hook_resid_post",
        "hook_type": "residual",
    }
    known = {"dataset_path": "lmsys/lmsys-chat-1m", "prepend_bos": True}
    return {**as_facts(Origin.PATH, told), **as_facts(Origin.CATALOGUE, known)}
