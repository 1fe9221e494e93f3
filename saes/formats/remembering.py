"""A Source that asks once for what several families look at."""

from collections.abc import Callable
from typing import TypeVar

from saes.formats.base import Source, Tree

K = TypeVar("K")
T = TypeVar("T")
MOST = 1 << 20  # larger reads are not kept


class Remembering:
    """For one look at one SAE: nothing is ever forgotten."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sizes: dict[str, int] = {}
        self._texts: dict[str, str] = {}
        self._reads: dict[tuple[str, int, int], bytes] = {}

    @property
    def tree(self) -> Tree:
        return self._source.tree

    def size(self, name: str) -> int:
        return _once(self._sizes, name, lambda: self._source.size(name))

    def text(self, name: str) -> str:
        return _once(self._texts, name, lambda: self._source.text(name))

    def read(self, name: str, start: int, stop: int) -> bytes:
        if stop - start > MOST:
            return self._source.read(name, start, stop)
        key = (name, start, stop)
        return _once(self._reads, key, lambda: self._source.read(name, start, stop))


def _once(kept: dict[K, T], key: K, ask: Callable[[], T]) -> T:
    if key not in kept:
        kept[key] = ask()
    return kept[key]
