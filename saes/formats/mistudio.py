"""miStudio native: checkpoint.safetensors, and the metadata.json that states what it means.

Only the form this project writes; checkpoints of the older miStudio are in mistudio_legacy.py, what
its exporters wrote in mistudio_exports.py. All tensors are [out, in], so both matrices are turned.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saes.errors import BrokenFile, CannotRepresent, UnsupportedArchitecture
from saes.formats import (
    mistudio_beside,
    mistudio_exports,
    mistudio_legacy,
    mistudio_tensors,
)
from saes.formats.architectures import (
    NORMALISATIONS,
    PLAIN,
    TOPK,
    check_tensors,
    is_transcoder,
    standard_shapes,
)
from saes.formats.base import (
    Fact,
    Facts,
    Folder,
    Given,
    Origin,
    Sae,
    SaeInfo,
    Source,
    Tree,
    inside,
    parent,
)
from saes.formats.configs import Config, read_config
from saes.formats.family import Layout, Tensors
from saes.formats.files.containers import Container, read_safetensors
from saes.formats.files.writing import write_json, write_safetensors
from saes.formats.given import DESCRIPTIVE, cleaned, refuse_missing, with_given
from saes.formats.mistudio_beside import CHECKPOINT, METADATA
from saes.formats.mistudio_exports import CFG
from saes.formats.mistudio_given import TURNED, Possible, possible, refuse_unfit
from saes.formats.names import hints_from
from saes.progress import Reporter
from saes.tensors import BITS, LazyTensor, to_bits

if TYPE_CHECKING:
    from saes.reference import Reference

VERSION = 1
LAYOUT = Layout(
    {
        "W_enc": "model.encoder.weight",
        "b_enc": "model.encoder.bias",
        "W_dec": "model.decoder.weight",
        "b_dec": "model.decoder_bias",
        "threshold": "model.threshold",
        "b_gate": "model.gate_bias",
        "b_mag": "model.mag_bias",
        "r_mag": "model.r_mag",
        "W_skip": "model.skip.weight",  # [out, in] already
    },
    turned=("W_enc", "W_dec"),
)
LOG_THRESHOLD = "model.activation.log_threshold"
LOGARITHMIC = Layout({**LAYOUT.names, "threshold": LOG_THRESHOLD}, LAYOUT.turned)
STATED = ("architecture", "apply_b_dec_to_input", "normalize_activations")


class MiStudio:
    slug: ClassVar[str] = "mistudio"
    label: ClassVar[str] = "miStudio"
    looks_for: ClassVar[str] = "`checkpoint.safetensors` with miStudio's tensor names"

    architectures: ClassVar[Sequence[str]] = PLAIN

    def find(self, tree: Tree) -> list[str]:
        return sorted({*tree.folders_with(CHECKPOINT), *mistudio_beside.documented(tree)})

    def files(self, tree: Tree, where: str) -> list[str]:
        if tree.has(where, CHECKPOINT):
            wanted: tuple[str, ...] = (CHECKPOINT, METADATA)
        elif tree.has(where, mistudio_exports.WEIGHTS):
            wanted = mistudio_exports.FILES
        else:
            file = mistudio_beside.weight_file(tree, where)
            wanted = (file.rpartition("/")[2], mistudio_beside.CONFIG)
            where = parent(file)
        return [inside(where, base) for base in wanted if tree.has(where, base)]

    def hints(self, tree: Tree, where: str) -> Facts:
        return hints_from(where, tree.repo_id)

    def probe(self, source: Source, where: str, given: Given) -> SaeInfo:
        given = cleaned(given)
        if _is_export(source.tree, where):
            return mistudio_exports.probe(source, where, given)
        if _is_native(source, where):
            return _Native(source, where).info(given)
        file = mistudio_beside.weight_file(source.tree, where)
        return mistudio_legacy.probe(source, where, file, given)

    def load(self, source: Folder, where: str, given: Given) -> Sae:
        info = self.probe(source, where, given)
        refuse_missing(info)
        if _is_export(source.tree, where):
            return mistudio_exports.load(source, info)
        if _is_native(source, where):
            native = _Native(source, where)
            return Sae(info, native.tensors(source), native.metadata.section("source").values)
        return mistudio_tensors.load(source, info.files[0], info)

    def save(self, sae: Sae, target: Path, progress: Reporter) -> list[Path]:
        checkpoint, metadata = target / CHECKPOINT, target / METADATA
        tensors = stored(sae.tensors)
        write_json(metadata, _metadata(sae))  # first: the weights are compared as they are written
        write_safetensors(checkpoint, tensors, {"format": self.slug}, progress)
        return [checkpoint, metadata]

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        from saes.formats import mistudio_reference

        given = cleaned(given)
        if _is_native(source, where):
            return mistudio_reference.native(source.path(inside(where, CHECKPOINT)), given)
        info = self.probe(source, where, given)
        if _is_export(source.tree, where):
            return mistudio_reference.export(source.path(inside(where, CFG)).parent, info, given)
        return mistudio_reference.legacy(source.path(info.files[0]), info, given)


def rewrite_metadata(folder: Path, given: Given) -> None:
    """State model_name, hook_name or layer anew, beside unchanged weights. Atomic."""
    facts = cleaned(given)
    wrong = [name for name in facts if name not in DESCRIPTIVE]
    if wrong:
        raise CannotRepresent(
            f"{wrong[0]} changes what the weights mean: convert the source again."
        )
    path = folder / METADATA
    metadata = json.loads(path.read_text())
    metadata["facts"] |= {
        name: {"value": value, "origin": Origin.USER} for name, value in facts.items()
    }
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    write_json(part, metadata)
    part.replace(path)


def stored(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The standard tensors under their native names, turned."""
    names, turned = LAYOUT.names, LAYOUT.turned
    out = {names[name]: it.transposed() if name in turned else it for name, it in tensors.items()}
    if "threshold" in tensors:
        logarithm = _logarithm(tensors["threshold"])
        if logarithm is not None:
            del out[names["threshold"]]
            out[LOG_THRESHOLD] = logarithm
    return out


def _logarithm(threshold: LazyTensor) -> LazyTensor | None:
    """In F64, if its exponential gives back every bit: not for zero, negative or NaN thresholds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.log(threshold.all())
    back = to_bits(np.exp(logarithm), threshold.dtype)
    same = np.array_equal(back, threshold.block(slice(None)))
    if not same or not np.isfinite(logarithm).all():
        return None
    return threshold.mapped(lambda values, index: np.log(values), "F64")


def _metadata(sae: Sae) -> dict[str, Any]:
    return {
        "format": MiStudio.slug,
        "format_version": VERSION,
        "facts": {
            name: {"value": it.value, "origin": it.origin}
            for name, it in sorted(sae.info.facts.items())
        },
        "tensors": {
            name: {"dtype": it.dtype, "shape": list(it.shape)}
            for name, it in sorted(sae.tensors.items())
        },
        "source": dict(sae.provenance),
    }


def _is_export(tree: Tree, where: str) -> bool:
    return not tree.has(where, CHECKPOINT) and tree.has(where, mistudio_exports.WEIGHTS)


def _is_native(source: Source, where: str) -> bool:
    """The older converter left a metadata.json of the same format name, without a version."""
    if not (source.tree.has(where, CHECKPOINT) and source.tree.has(where, METADATA)):
        return False
    metadata = read_config(source, inside(where, METADATA))
    return metadata.values.get("format") == MiStudio.slug and "original_format" not in metadata


def _possible(stored: Facts) -> Possible:
    """It states everything: only the arithmetic around the weights can be stated anew."""
    told = {name: stored[name].value for name in STATED}
    normalisations = [told["normalize_activations"]]
    if not is_transcoder(told["architecture"]):
        normalisations += [it for it in NORMALISATIONS if it != "covariance_whitening"]
    return {
        "architecture": (told["architecture"],),
        "generation": (stored["generation"].value,) if "generation" in stored else (),
        "normalize_activations": normalisations,
        "orientation": (TURNED,),
        **possible(stored),
    }


class _Native:
    def __init__(self, source: Source, where: str) -> None:
        self.where = where
        self.container: Container = read_safetensors(source, inside(where, CHECKPOINT))
        self.metadata: Config = read_config(source, inside(where, METADATA))
        self.layout = LOGARITHMIC if LOG_THRESHOLD in self.container.members else LAYOUT
        if self.metadata.whole("format_version") != VERSION:
            raise UnsupportedArchitecture(
                f"`{self.metadata.name}` was written by a newer miStudio."
            )

    def info(self, given: Given) -> SaeInfo:
        stored = self._facts()
        facts = with_given(stored, given)
        refuse_unfit(self.metadata.name, given, _possible(stored))
        architecture = facts["architecture"].value
        dims = [facts[name].value for name in ("d_in", "d_sae", "d_out")]
        wanted = standard_shapes(architecture, *dims)
        check_tensors(self.container.name, self.layout.shapes(self.container), wanted)
        files = [self.container.name, self.metadata.name]
        return SaeInfo(MiStudio.slug, self.where, facts, self.container.specs, files)

    def tensors(self, source: Folder) -> Tensors:
        tensors = self.layout.tensors(source, self.container)
        if self.layout is LOGARITHMIC:
            dtype = self.metadata.section("tensors").section("threshold").text("dtype")
            if dtype not in BITS:
                raise self.metadata.wrong("tensors.threshold.dtype", "one of " + ", ".join(BITS))
            exact = tensors["threshold"].mapped(lambda it, index: np.exp(it), dtype)
            tensors["threshold"] = exact
        return tensors

    def _facts(self) -> dict[str, Fact]:
        told = self.metadata.section("facts")
        facts = {name: self._fact(told.section(name)) for name in told.values}
        self._check({name: fact.value for name, fact in facts.items()})
        return facts

    def _fact(self, told: Config) -> Fact:
        origin = told.text("origin")
        if origin not in list(Origin) or isinstance(told.values.get("value"), dict | list):
            raise told.wrong("origin", "one of " + ", ".join(Origin))
        return Fact(told.values.get("value"), Origin(origin))

    def _check(self, facts: dict[str, Any]) -> None:
        flat = Config(self.metadata.name, facts)
        whole = ("d_in", "d_sae", "d_out") + (("k",) if facts.get("architecture") in TOPK else ())
        if (
            any(flat.whole(name) is None for name in whole)
            or flat.text("architecture") not in PLAIN
        ):
            raise BrokenFile(
                f"`{flat.name}` does not state {', '.join((*whole, 'architecture'))} rightly."
            )
        if facts["architecture"] in TOPK and facts["k"] > facts["d_sae"]:
            raise flat.wrong("k", f"at most d_sae, {facts['d_sae']:,}")
        if flat.flag("apply_b_dec_to_input") is None or flat.text("normalize_activations") is None:
            raise BrokenFile(f"`{flat.name}` does not state {', '.join(STATED)}.")
