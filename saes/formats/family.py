"""What most families share: one reading gives facts and tensors; stored names become standard."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from saes.errors import BrokenFile
from saes.formats.architectures import Shape, check_tensors, is_transcoder, standard_shapes
from saes.formats.base import Facts, Folder, Given, Sae, SaeInfo, Source, Tree
from saes.formats.files.containers import Container
from saes.formats.given import cleaned, dtype_words, refuse_missing, refuse_not_plain
from saes.formats.names import hints_from
from saes.tensors import LazyTensor

Tensors = dict[str, LazyTensor]


@dataclass(frozen=True)
class Reading:
    """One SAE as its family reads it: what it is, and how its tensors become standard."""

    info: SaeInfo
    tensors: Callable[[Folder], Tensors]


class Family(ABC):
    """A format whose facts and tensors come from one reading of config and header."""

    slug: ClassVar[str]
    label: ClassVar[str]
    looks_for: ClassVar[str]

    @abstractmethod
    def read(self, source: Source, where: str, given: Given) -> Reading:
        """`given` is cleaned. Raises NotThisFormat, BrokenFile, UnsupportedArchitecture."""

    def hints(self, tree: Tree, where: str) -> Facts:
        return hints_from(where, tree.repo_id)

    def probe(self, source: Source, where: str, given: Given) -> SaeInfo:
        return self.read(source, where, cleaned(given)).info

    def load(self, source: Folder, where: str, given: Given) -> Sae:
        reading = self.read(source, where, cleaned(given))
        refuse_missing(reading.info)
        refuse_not_plain(reading.info)
        return Sae(reading.info, reading.tensors(source))


@dataclass(frozen=True)
class Layout:
    """Where the standard tensors lie: standard name -> stored name, and which are transposed."""

    names: Mapping[str, str]
    turned: Sequence[str] = ()

    def knows(self, container: Container) -> bool:
        """Whether every one of these tensors is there."""
        return set(self.names.values()) <= container.members.keys()

    def shapes(self, container: Container, without: Sequence[str] = ()) -> dict[str, Shape]:
        """By standard name; an unknown tensor keeps its own, to be refused by it."""
        standard = {stored: name for name, stored in self.names.items()}
        named = {standard.get(it, it): shape for it, shape in container.shapes.items()}
        if len(named) != len(container.shapes):
            raise BrokenFile(f"`{container.name}` holds a tensor twice, under two names.")
        kept = {name: shape for name, shape in named.items() if name not in without}
        return {name: it[::-1] if name in self.turned else it for name, it in kept.items()}

    def tensors(self, source: Folder, container: Container) -> Tensors:
        found = {
            name: container.tensor(source, stored)
            for name, stored in self.names.items()
            if stored in container.members
        }
        return {name: it.transposed() if name in self.turned else it for name, it in found.items()}

    def dtype(self, container: Container) -> str:
        """Of the encoder, in cfg.json's words."""
        return dtype_words(container.members[self.names["W_enc"]].dtype)


def dimensions(file: str, shapes: Mapping[str, Shape], architecture: str) -> dict[str, Any]:
    """d_in, d_sae, d_out, once every tensor of the architecture is there and fits them."""
    d_in, d_sae = (*shapes.get("W_enc", ()), 0, 0)[:2]
    d_out = (*shapes.get("b_dec", ()), 0)[0] if is_transcoder(architecture) else d_in
    check_tensors(file, shapes, standard_shapes(architecture, d_in, d_sae, d_out))
    return {"d_in": d_in, "d_sae": d_sae, "d_out": d_out}
