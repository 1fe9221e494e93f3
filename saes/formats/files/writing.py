"""Writing safetensors block by block: the header first, then each block to its place in the file.

Blocks are whole rows, or parts of 128 rows where rows are long: shorter parts than 64 KB take the
kernel twice as long to write, and fewer rows are slow to read from a transposed source. Of two
threads one writes, for the kernel lets no two write into one file and would have the other spin;
the other turns meanwhile. No fsync here: whoever publishes the file does that.
"""

import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from saes import growing
from saes.progress import Reporter, Stopped
from saes.tensors import PANEL, Bits, LazyTensor, Turner, steps

RUN = 64 << 10  # bytes of one row
# Written at once: of 4 MB and more the kernel makes its largest pages, which are slow to come by.
AT_ONCE = 1 << 20
FEWEST_ROWS = PANEL // RUN
THREADS = 2


@dataclass(frozen=True)
class _Block:
    tensor: LazyTensor
    index: tuple[slice, ...]
    offset: int  # of the tensor in the file

    def write(self, file: int, turn: Turner, writing: Lock) -> int:
        bits = self.tensor.block(*self.index)
        if bits.ndim == 2 and bits.strides[1] != bits.itemsize:
            bits = turn(bits)
        with writing:
            self._put(bits, file)
        return bits.nbytes

    def _put(self, bits: Bits, file: int) -> None:
        start = self.offset + self.index[0].start * self._row
        if bits.flags.c_contiguous and bits.nbytes == len(bits) * self._row:
            _write(file, bits.data, start)
            return
        start += self.index[1].start * bits.itemsize
        for number, line in enumerate(bits):
            _write(file, line.data, start + number * self._row)

    @property
    def first_byte(self) -> int:
        """Everything before it belongs to blocks that come earlier."""
        return self.offset + int(self.index[0].start) * self._row

    @property
    def _row(self) -> int:
        return self.tensor.nbytes // self.tensor.shape[0]


def write_safetensors(
    path: Path, tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str], progress: Reporter
) -> None:
    header, offsets = _header(tensors, metadata)
    total = len(header) + sum(tensor.nbytes for tensor in tensors.values())
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    front = Front()
    try:
        os.ftruncate(file, total)  # first: whoever hears of the file takes this for its length
        with growing.announced(file, front.has), front:
            _write(file, memoryview(header), 0)
            blocks = (block for name, at in offsets.items() for block in _blocks(tensors[name], at))
            _write_all(file, blocks, progress, total, front)
    finally:
        os.close(file)


class Front:
    """How far a file is written without a gap. Readers wait for it; they stop where it ends."""

    def __init__(self) -> None:
        self.at = 0
        self._failed = False

    def has(self, start: int, stop: int) -> bool:
        if self._failed:
            raise Stopped
        return stop <= self.at

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._failed = kind is not None


def _header(
    tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """Wide dtypes first, then by name, as the safetensors library does: everything lies aligned."""
    entries: dict[str, object] = (
        {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    )
    begins, at = {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        begins[name], end = at, at + tensor.nbytes
        entries[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, {name: start + at for name, at in begins.items()}


def _blocks(tensor: LazyTensor, offset: int) -> Iterator[_Block]:
    if len(tensor.shape) == 1:
        yield from (_Block(tensor, (cut,), offset) for cut in tensor.panels())
        return
    rows, columns = tensor.shape
    height, width = max(1, PANEL // (columns * tensor.itemsize)), columns
    if height < min(rows, FEWEST_ROWS):
        height, width = FEWEST_ROWS, RUN // tensor.itemsize
    for cut in steps(rows, height):
        for across in steps(columns, width):
            yield _Block(tensor, (cut, across), offset)


def _write_all(
    file: int, blocks: Iterator[_Block], progress: Reporter, total: int, front: Front
) -> None:
    """At most two blocks per thread are waiting, so memory stays flat. Stopped leaves at once."""
    done, waiting, turn, writing = 0, deque[tuple[_Block, Future[int]]](), Turner(), Lock()

    def take_first() -> None:
        nonlocal done
        block, future = waiting.popleft()
        done += future.result()
        front.at = waiting[0][0].first_byte if waiting else block.first_byte
        progress.advance(done, total)

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for block in blocks:
                waiting.append((block, pool.submit(block.write, file, turn, writing)))
                if len(waiting) > THREADS:
                    take_first()
            while waiting:
                take_first()
        finally:
            pool.shutdown(cancel_futures=True)
    front.at = total
    progress.advance(total, total)


def _write(file: int, data: memoryview, at: int) -> None:
    data = data.cast("B")
    while data:
        written = os.pwrite(file, data[:AT_ONCE], at)
        data, at = data[written:], at + written


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A new file: what is there already is never overwritten."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with path.open("x", encoding="utf-8") as file:
        file.write(text + "\n")
