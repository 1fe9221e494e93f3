"""PyTorch checkpoints (the zip of torch >= 1.6): names, dtypes, shapes and places.

The pickle inside is read as a description (see pickles.py), never run. Every place that it names
is checked against the member that holds the numbers.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from saes.errors import UnsafeFormat, UnsupportedArchitecture
from saes.formats.base import Source
from saes.formats.files.containers import (
    BYTES,
    MAX_NAME,
    MAX_TENSORS,
    Container,
    Member,
    broken,
)
from saes.formats.files.inflate import ZipContent, whole
from saes.formats.files.pickles import described
from saes.formats.files.stand_ins import View, dtype_of
from saes.formats.files.zips import Entry, read_zip

DATA = "data.pkl"
MAX_PICKLE = 4 << 20
MAX_DEPTH = 32
MAX_LEAVES = 20_000
LITTLE = b"little"
NESTS = (dict, list, tuple)
Leaf = tuple[str, Any]


def read_pt(source: Source, name: str, start: int = 0) -> Container:
    """`start` is where the zip begins: some files have a line of JSON in front of it."""
    return pt_of(source, name, read_zip(source, name, start))


def is_torch(entries: Mapping[str, Entry]) -> bool:
    return any(_base(name) in (DATA, "constants.pkl") for name in entries)


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def pt_of(source: Source, name: str, entries: Mapping[str, Entry]) -> Container:
    stem = _stem(name, entries)
    if order := entries.get(f"{stem}byteorder"):
        _check_byteorder(source, order)
    pickle = entries[stem + DATA]
    if pickle.size > MAX_PICKLE:
        raise broken(name, f"has a pickle of {pickle.size:,} bytes")
    leaves = dict[str, Any]()
    for key, leaf in _leaves(name, described(name, whole(source, pickle))):
        if key in leaves:
            raise broken(name, f"holds {key} twice")
        leaves[key] = leaf
    contents = {found: ZipContent(entry) for found, entry in entries.items()}
    views = {key: leaf for key, leaf in leaves.items() if isinstance(leaf, View)}
    if len(views) > MAX_TENSORS:
        raise broken(name, f"holds more than {MAX_TENSORS:,} tensors")
    members = {key: _member(name, key, view, stem, contents) for key, view in views.items()}
    objects = {key: leaf for key, leaf in leaves.items() if key not in views}
    return Container(name, members, objects=objects)


def _stem(name: str, entries: Mapping[str, Entry]) -> str:
    """The folder that everything lies in, named after the file when it was saved."""
    found = [it.removesuffix(DATA) for it in entries if _base(it) == DATA]
    if any(_base(it) == "constants.pkl" or "code" in it.split("/")[:-1] for it in entries):
        raise UnsafeFormat(f"`{name}` is a TorchScript program, not weights. It was not run.")
    if len(found) != 1:
        raise broken(name, f"holds {len(found)} data.pkl: a PyTorch checkpoint has one")
    return found[0]


def _check_byteorder(source: Source, order: Entry) -> None:
    """By its checksum where there is one, so that six bytes do not cost a request of their own."""
    by_sum = order.crc == zlib.crc32(LITTLE) and order.size == len(LITTLE)
    if not by_sum and (order.size > len(LITTLE) or whole(source, order) != LITTLE):
        raise broken(order.file, "holds big-endian numbers, which are not supported")


def _leaves(name: str, tree: Any) -> Iterator[Leaf]:
    if type(tree) is not dict:
        raise broken(name, "holds no table of tensors")
    for count, leaf in enumerate(_walk(name, "", tree, 0)):
        if count > MAX_LEAVES:
            raise broken(name, f"holds more than {MAX_LEAVES:,} values")
        yield leaf


def _walk(name: str, path: str, tree: Any, depth: int) -> Iterator[Leaf]:
    if depth > MAX_DEPTH:
        raise broken(name, "is nested too deeply")
    children = _children(tree)
    if not children and path:
        yield path, _plain(name, path, tree)
    for key, child in children:
        yield from _walk(name, _key(name, path, key), child, depth + 1)


def _children(tree: Any) -> list[Leaf]:
    """A list of plain values is one value; a list of tensors or of lists is numbered."""
    if type(tree) is dict:
        return [(str(key), child) for key, child in tree.items()]
    if type(tree) in (list, tuple) and any(type(it) in (View, *NESTS) for it in tree):
        return [(str(index), child) for index, child in enumerate(tree)]
    return []


def _key(name: str, path: str, key: str) -> str:
    full = f"{path}.{key}" if path else key
    if not key or not key.isprintable() or len(full) > MAX_NAME:
        raise broken(name, "holds a value with an impossible name")
    return full


def _plain(name: str, path: str, leaf: Any) -> Any:
    if type(leaf) in (list, tuple):
        return [_plain(name, path, item) for item in leaf]
    if dtype_of(leaf):
        return leaf.text
    if leaf is not None and type(leaf) not in (View, dict, str, int, float, bool):
        raise broken(name, f"holds {path}, which is neither a tensor nor a plain value")
    return leaf


def _member(
    name: str, key: str, view: View, stem: str, contents: Mapping[str, ZipContent]
) -> Member:
    content = contents.get(f"{stem}data/{view.storage.key}")
    if content is None:
        raise broken(name, f"does not hold the numbers of {key}")
    width = BYTES[view.dtype]
    if view.storage.count * (width if view.storage.dtype else 1) != content.entry.size:
        raise broken(name, f"gives {key} a size that its numbers do not have")
    fortran = _is_fortran(name, key, view)
    member = Member(view.dtype, view.shape, view.offset * width, fortran, content)
    if member.offset + member.nbytes > content.entry.size:
        raise broken(name, f"places {key} outside of its numbers")
    return member


def _is_fortran(name: str, key: str, view: View) -> bool:
    """Whether a matrix lies column by column, as a transposed one is saved."""
    axes = [(size, step) for size, step in zip(view.shape, view.strides, strict=True) if size > 1]
    if not axes or 0 in view.shape or _is_dense(axes):
        return False
    if len(axes) == len(view.shape) == 2 and _is_dense(axes[::-1]):
        return True
    raise UnsupportedArchitecture(
        f"`{name}`: the numbers of {key} do not lie one behind the other (a slice or an expanded "
        "tensor was saved)."
    )


def _is_dense(axes: list[tuple[int, int]]) -> bool:
    step = 1
    for size, stride in reversed(axes):
        if stride != step:
            return False
        step *= size
    return True
