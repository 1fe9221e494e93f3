"""qresearch's SAE of DeepSeek-R1-Distill-Llama-8B: one PyTorch file with two linear layers.

Apollo's files and those of dictionary_learning hold the same four tensors; only names tell whose
they are. The decoder's bias is only added at the end, never subtracted from the input.
"""

import re
from typing import Any, ClassVar

from saes.errors import NotThisFormat
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts
from saes.formats.family import Family, Layout, Reading, dimensions
from saes.formats.single import TORCH, base_of, linear_reference, opened, stated
from saes.reference import Reference

NAMES = {
    "W_enc": "encoder.weight",
    "b_enc": "encoder.bias",
    "W_dec": "decoder.weight",
    "b_dec": "decoder.bias",
}
LAYERS = {
    "encoder": "encoder.weight",
    "b_enc": "encoder.bias",
    "decoder": "decoder.weight",
    "b_dec": "decoder.bias",
}
LAYOUT = Layout(NAMES, turned=("W_enc", "W_dec"))
FILE = re.compile(r"SAE-l(\d+)\.pth?$", re.I)
DISTILLED = re.compile(r"DeepSeek-R1-Distill-[A-Za-z]+-[\d.]+B")
LAYER = re.compile(r"(?:^|[-_])l(?:ayer_?)?(\d+)(?=$|[-_.])", re.I)
SEMANTICS = {
    "architecture": "standard",
    "apply_b_dec_to_input": False,
    "normalize_activations": "none",
    "reshape_activations": "none",
}
TRAINING = {"dataset_path": "lmsys/lmsys-chat-1m", "prepend_bos": True, "context_size": 1024}


class DeepSeekR1(Family):
    slug: ClassVar[str] = "deepseek_r1"
    label: ClassVar[str] = "DeepSeek-R1 (qresearch)"
    looks_for: ClassVar[str] = "a file like `DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt`"

    def find(self, tree: Tree) -> list[str]:
        return sorted(name for name in tree.names if _is_named(tree.repo_id, name))

    def files(self, tree: Tree, where: str) -> list[str]:
        return [where]

    def hints(self, tree: Tree, where: str) -> Facts:
        return {**super().hints(tree, where), **_named(tree.repo_id, where)}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        if not _is_named(source.tree.repo_id, where):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
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
        return linear_reference(source, self.probe(source, where, given), LAYERS)


def _is_named(repo_id: str | None, name: str) -> bool:
    base = base_of(name)
    if not base.endswith(TORCH):
        return False
    ours = DISTILLED.search(base) or DISTILLED.search(repo_id or "")
    return bool(FILE.search(base) or (ours and LAYER.search(base)))


def _named(repo_id: str | None, where: str) -> Facts:
    """The model only where a name says it; the layer and the site are in every name."""
    base = base_of(where)
    model = DISTILLED.search(base) or DISTILLED.search(repo_id or "")
    layer = LAYER.search(base)
    told: dict[str, Any] = {"hook_type": "residual"} if model else {}
    if model:
        told["model_name"] = f"deepseek-ai/{model[0]}"
    if layer:
        told["layer"] = int(layer[1])
    if model and layer:
        told["hook_name"] = f"blocks.{layer[1]}.hook_resid_post"
    known = TRAINING if model else {}
    return {**as_facts(Origin.PATH, told), **as_facts(Origin.CATALOGUE, known)}
