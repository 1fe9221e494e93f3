"""The parts of a cross-layer transcoder or crosscoder of Gemma Scope 2: one file for each.

Their decoder has an axis for the places that it writes to, so they are kept as they came.
"""

import re
from collections.abc import Sequence

from saes.errors import UnsupportedArchitecture
from saes.formats.architectures import check_tensors
from saes.formats.base import Fact, Facts, Origin, TensorSpec, as_facts
from saes.formats.configs import Config
from saes.formats.files.containers import Container
from saes.formats.given import dtype_words

SUFFIX = ".safetensors"
AFFINE = "affine_skip_connection"
PART = re.compile(r"params_layer_(\d+)\.safetensors")
CROSSCODER = re.compile(r"(?:^|/)(?:crosscoder(?:/|$)|layer(?:_\d+){2,}_width)")
CLT = re.compile(r"(?:^|/)clt(?=[/_]|$)")
KINDS = ("clt", "crosscoder")


def parts_of(bases: set[str]) -> list[str]:
    """params_layer_0, params_layer_1, ... in their order."""
    found = [(int(it[1]), base) for base in bases if (it := PART.fullmatch(base))]
    return [base for _, base in sorted(found)]


def several(where: str, containers: Sequence[Container], config: Config) -> Facts:
    """One layer of a CLT, or a crosscoder with the features of all its slots."""
    for container in containers:
        _check_part(container)
    shapes = containers[0].shapes
    told = {
        "d_in": shapes["w_enc"][0],
        "d_sae": sum(it.shapes["w_enc"][1] for it in containers),
        "d_out": shapes["w_dec"][2],
        "dtype": dtype_words(containers[0].members["w_enc"].dtype),
    }
    kind = config.text("type")
    if kind in KINDS:
        return as_facts(Origin.FILE, {**told, "architecture": kind})
    named = _named_kind(where)
    if named is None:
        raise UnsupportedArchitecture(
            f"`{containers[0].name}`: w_dec writes to several places. Neither names nor "
            "config.json tell whether it is part of a CLT or of a crosscoder."
        )
    return {**as_facts(Origin.FILE, told), "architecture": Fact(named, Origin.PATH)}


def _named_kind(where: str) -> str | None:
    if CROSSCODER.search(where):
        return "crosscoder"
    return "clt" if CLT.search(where) else None


def _check_part(container: Container) -> None:
    shapes = container.shapes
    d_in, d_sae = (*shapes.get("w_enc", ()), 0, 0)[:2]
    n_places = (*shapes.get("w_dec", ()), 0, 0)[1]
    wanted = {"w_enc": (d_in, d_sae), "w_dec": (d_sae, n_places, d_in), "b_dec": (d_in,)}
    wanted |= {"b_enc": (d_sae,), "threshold": (d_sae,)}
    if AFFINE in shapes:
        wanted[AFFINE] = (d_in, d_in)
    check_tensors(container.name, shapes, wanted)


def specs(containers: Sequence[Container]) -> list[TensorSpec]:
    """A crosscoder's files hold tensors of the same names."""
    if len(containers) == 1:
        return containers[0].specs
    stems = [it.name.rpartition("/")[2].removesuffix(SUFFIX) for it in containers]
    return [
        TensorSpec(f"{stem}.{spec.name}", spec.dtype, spec.shape)
        for stem, it in zip(stems, containers, strict=True)
        for spec in it.specs
    ]
