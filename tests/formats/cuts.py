"""Files that end too early, wherever a reader could take what is left for a whole one."""

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from saes.errors import SaeError


def assert_cut_is_broken(
    path: Path, look: Callable[[], object], lengths: Iterable[int] | None = None
) -> None:
    """Never a wrong reading, never a crash."""
    refusals = ("broken_file", "unsafe_format") if path.suffix == ".pt" else ("broken_file",)
    whole = path.read_bytes()
    # Ever shorter: each cut takes bytes away, and nothing is written again.
    for length in sorted(lengths or cuts(whole), reverse=True):
        os.truncate(path, length)
        with pytest.raises(SaeError) as caught:
            look()
        assert caught.value.code in refusals, length


def cuts(whole: bytes) -> set[int]:
    """At and beside the borders of its parts, and here and there between.

    That every single byte counts is tested where they are read: test_containers and test_pt.
    """
    near = {border + step for border in _borders(whole) for step in range(-2, 3)}
    return {it for it in near if 0 <= it < len(whole)} | {*range(0, len(whole), len(whole) // 50)}


def _borders(whole: bytes) -> Iterator[int]:
    yield from (0, len(whole))
    if not zipfile.is_zipfile(io.BytesIO(whole)):
        yield from (8, 8 + int.from_bytes(whole[:8], "little"))
        return
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        yield from (archive.start_dir, len(whole) - 22)  # where its end is told
        for entry in archive.infolist():
            yield from (entry.header_offset, entry.header_offset + 30 + len(entry.filename))
