"""circuit-tracer's cross-layer transcoders: W_enc_N and W_dec_N of each layer, one config.yaml.

Features of layer N write to layer N and to all after it, so one layer alone rebuilds nothing: it is
described and kept as it came. Its `where` is the layer's number, in its folder if there is one.
"""

import re
from typing import TYPE_CHECKING, Any, ClassVar

from saes.errors import NotThisFormat, UnsupportedArchitecture
from saes.formats.architectures import NOT_PLAIN, Shape, check_tensors
from saes.formats.base import (
    ROOT,
    Fact,
    Facts,
    Folder,
    Given,
    Origin,
    SaeInfo,
    Source,
    Tree,
    as_facts,
    inside,
)
from saes.formats.circuit_tracer_files import CONFIG, told_by, yaml_of
from saes.formats.family import Family, Reading
from saes.formats.files.containers import Container, read_safetensors
from saes.formats.given import dtype_words
from saes.formats.names import hints_from
from saes.formats.single import stated

if TYPE_CHECKING:
    from saes.reference import Reference

ENCODER = re.compile(r"W_enc_(0|[1-9]\d{0,3})\.safetensors")
LAYER = re.compile(r"0|[1-9]\d{0,3}")
CONSTANTS = {
    "architecture": "clt",
    "hook_type": "transcoder",
    "apply_b_dec_to_input": False,
    "normalize_activations": "none",
    "reshape_activations": "none",
}


class CircuitTracerClt(Family):
    slug: ClassVar[str] = "circuit_tracer_clt"
    label: ClassVar[str] = "circuit-tracer CLT"
    looks_for: ClassVar[str] = "`W_enc_N.safetensors` beside `W_dec_N.safetensors`"

    def find(self, tree: Tree) -> list[str]:
        return sorted(inside(it, layer) for it in tree.folders for layer in _layers(tree, it))

    def files(self, tree: Tree, where: str) -> list[str]:
        folder, layer = _place(tree, where)
        bases = (*_weights(layer), CONFIG)
        return [inside(folder, base) for base in bases if tree.has(folder, base)]

    def hints(self, tree: Tree, where: str) -> Facts:
        folder, layer = _place(tree, where)
        named = as_facts(Origin.PATH, {"layer": int(layer)})
        kind = {"hook_type": Fact("transcoder", Origin.CATALOGUE)}
        return {**hints_from(folder, tree.repo_id), **named, **kind}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        folder, layer = _place(source.tree, where)
        files = [read_safetensors(source, inside(folder, base)) for base in _weights(layer)]
        facts = {
            **self.hints(source.tree, where),
            **as_facts(Origin.CATALOGUE, CONSTANTS),
            **as_facts(Origin.FILE, _checked(layer, *files)),
            **told_by(yaml_of(source, folder, CONFIG), int(layer)),
        }
        specs = [spec for file in files for spec in file.specs]
        info = SaeInfo(
            self.slug, where, stated(where, facts, given), specs, self.files(source.tree, where)
        )
        return Reading(info, lambda folder: {})  # never asked for: it has no standard tensors

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        raise UnsupportedArchitecture(f"`{where}` is no plain SAE: {NOT_PLAIN['clt']}.")


def _weights(layer: str) -> tuple[str, str]:
    return f"W_enc_{layer}.safetensors", f"W_dec_{layer}.safetensors"


def _layers(tree: Tree, folder: str) -> list[str]:
    """Those of a folder that have both files."""
    found = (ENCODER.fullmatch(base) for base in tree.folders.get(folder, ()))
    return [it[1] for it in found if it and tree.has(folder, _weights(it[1])[1])]


def _place(tree: Tree, where: str) -> tuple[str, str]:
    """The folder and the layer's number. Of a folder copied elsewhere: its only layer."""
    folder, _, layer = where.rpartition("/")
    folder = folder or ROOT
    if LAYER.fullmatch(layer) and layer in _layers(tree, folder):
        return folder, layer
    only = _layers(tree, where)
    if len(only) != 1:
        raise NotThisFormat(f"It looks for {CircuitTracerClt.looks_for}.")
    return where, only[0]


def _checked(layer: str, encoder: Container, decoder: Container) -> dict[str, Any]:
    """d_in, d_sae, d_out and dtype, once every tensor is there and fits them."""
    shapes = encoder.shapes
    d_sae, d_in = (*shapes.get(f"W_enc_{layer}", ()), 0, 0)[:2]
    d_out = (*shapes.get(f"b_dec_{layer}", ()), 0)[0]
    wanted: dict[str, Shape] = {
        f"W_enc_{layer}": (d_sae, d_in),
        f"b_enc_{layer}": (d_sae,),
        f"b_dec_{layer}": (d_out,),
    }
    if f"threshold_{layer}" in shapes:
        wanted[f"threshold_{layer}"] = (d_sae,)
    check_tensors(encoder.name, shapes, wanted)
    layers = (*decoder.shapes.get(f"W_dec_{layer}", ()), 0, 0)[1]  # N itself and those after it
    check_tensors(decoder.name, decoder.shapes, {f"W_dec_{layer}": (d_sae, layers, d_out)})
    dtype = dtype_words(encoder.members[f"W_enc_{layer}"].dtype)
    return {"d_in": d_in, "d_sae": d_sae, "d_out": d_out, "dtype": dtype}
