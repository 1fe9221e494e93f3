"""saev, for vision models: one line of JSON, and behind it a PyTorch file with community tensors.

Its top-k keeps negative values. Its BatchTopK is a threshold once training is over. Where the line
has no `schema` it is the older one: a flat table, and ReLU. The first versions of saev subtracted
b_dec from the input; today's reads their files without doing so, and so does this: who knows of a
file that it was trained so states apply_b_dec_to_input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from saes.errors import NotThisFormat, UnsupportedArchitecture
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts
from saes.formats.configs import Config
from saes.formats.family import Family, Layout, Reading, Tensors, dimensions
from saes.formats.files.containers import Container, broken, parse_json
from saes.formats.files.pt import read_pt
from saes.formats.files.rereading import reopen
from saes.formats.given import refuse_not_plain
from saes.formats.single import TORCH, base_of, spread, stated
from saes.reference import Plain, Reference, jumprelu, relu

FILE = "sae.pt"
MAX_LINE = 64 << 10
LAYOUT = Layout({name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")})
THRESHOLD = "activation.threshold"  # one number for all features
SEMANTICS = {
    "apply_b_dec_to_input": False,
    "normalize_activations": "none",
    "reshape_activations": "none",
}


@dataclass(frozen=True)
class _Header:
    config: Config  # of the model
    activation: str
    k: int | None
    stop: int  # where the zip begins


class Saev(Family):
    slug: ClassVar[str] = "saev"
    label: ClassVar[str] = "saev (vision)"
    looks_for: ClassVar[str] = "`sae.pt`: a line of JSON, then a PyTorch file"

    def find(self, tree: Tree) -> list[str]:
        return sorted(name for name in tree.names if base_of(name) == FILE)

    def files(self, tree: Tree, where: str) -> list[str]:
        return [where]

    def read(self, source: Source, where: str, given: Given) -> Reading:
        header = self._header(source, where)
        container = read_pt(source, where, start=header.stop)
        found = dimensions(where, LAYOUT.shapes(container, without=(THRESHOLD,)), "standard")
        _check_sizes(header.config, found)
        facts = {
            **self.hints(source.tree, where),
            **as_facts(Origin.CATALOGUE, SEMANTICS),
            **as_facts(Origin.FILE, {**found, "dtype": LAYOUT.dtype(container)}),
            **_activation(header, container),
        }
        info = SaeInfo(self.slug, where, stated(where, facts, given), container.specs, [where])
        return Reading(info, _tensors(container))

    def reference(self, source: Folder, where: str, given: Given) -> Reference:
        """activation(x @ W_enc + b_enc) @ W_dec + b_dec."""
        info = self.probe(source, where, given)
        refuse_not_plain(info)
        arrays = reopen(source.path(where))
        b_enc, jumps = arrays.vector("b_enc"), info.get("architecture") == "jumprelu"
        return Plain(
            encoder=arrays.matrix("W_enc"),
            decoder=arrays.matrix("W_dec"),
            b_dec=arrays.vector("b_dec"),
            activation=jumprelu(b_enc, arrays.number(THRESHOLD)) if jumps else relu(b_enc),
            centre=info.get("apply_b_dec_to_input"),
            normalisation=info.get("normalize_activations"),
        )

    def _header(self, source: Source, where: str) -> _Header:
        if where not in source.tree.names or not where.endswith(TORCH):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        size = source.size(where)
        if source.read(where, 0, min(1, size)) != b"{":
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        line, newline, _ = source.read(where, 0, min(size, MAX_LINE)).partition(b"\n")
        if int.from_bytes(line[:8], "little") <= size:
            raise NotThisFormat("It is a safetensors file.")
        if not newline:
            raise broken(where, "does not tell in its first line what it is")
        return _parsed(Config(where, parse_json(where, line)), len(line) + 1)


def _parsed(line: Config, stop: int) -> _Header:
    if line.whole("schema", least=0) is None:
        return _Header(line, "Relu", None, stop)
    config, kind = line.section("cfg"), line.text("cls")
    if kind in ("Relu", "TopK", "BatchTopK"):  # the first files of schema 1
        return _Header(config, kind, config.whole("top_k"), stop)
    activation = config.section("activation")
    named = activation.text("cls")
    if named is None:
        raise broken(line.name, "does not tell its activation")
    return _Header(config, named, activation.section("params").whole("top_k"), stop)


def _check_sizes(config: Config, found: dict[str, Any]) -> None:
    d_in = config.whole("d_vit") or config.whole("d_model")
    d_sae, factor = config.whole("d_sae"), config.whole("exp_factor")
    if d_in is None:
        raise broken(config.name, "does not tell d_vit or d_model in its first line")
    wide = d_sae or (d_in * factor if factor else found["d_sae"])
    if (d_in, wide) != (found["d_in"], found["d_sae"]):
        raise broken(
            config.name,
            f"tells of {d_in} x {wide} in its first line, but holds "
            f"{found['d_in']} x {found['d_sae']}",
        )


def _activation(header: _Header, container: Container) -> Facts:
    name, has_threshold = header.activation, THRESHOLD in container.members
    if has_threshold and name != "BatchTopK":
        raise broken(container.name, f"holds the unknown tensor {THRESHOLD}")
    if name == "Relu":
        return as_facts(Origin.FILE, {"architecture": "standard"})
    if name == "TopK" and header.k:
        return as_facts(Origin.FILE, {"architecture": "signed_topk", "k": header.k})
    if name == "BatchTopK" and has_threshold:
        told = {"architecture": "jumprelu", "training_architecture": "batchtopk"}
        return as_facts(Origin.FILE, told)
    if name == "TopK":
        raise broken(container.name, "does not tell its top_k")
    raise UnsupportedArchitecture(
        f"`{container.name}`: {name[:50]} is defined for whole batches, not for one activation."
    )


def _tensors(container: Container) -> Callable[[Folder], Tensors]:
    def tensors(folder: Folder) -> Tensors:
        plain = LAYOUT.tensors(folder, container)
        if THRESHOLD not in container.members:
            return plain
        width = plain["b_enc"].shape[0]
        return {**plain, "threshold": spread(folder, container, THRESHOLD, width)}

    return tensors
