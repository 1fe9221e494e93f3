"""What is made of files while they still come is, byte for byte, what is made of whole ones."""

import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from saes import converter, growing, parts
from saes.errors import SaeError
from saes.formats.architectures import NOT_PLAIN
from saes.making import Making, Order
from saes.parts import PartFile
from saes.progress import Silent, Stopped
from saes.storage import Expected
from tests.fixtures import SAMPLES, Sample, write_saelens

WEIGHTS = (".safetensors", ".npz", ".pt")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PIECE", 700)


class Arriving:
    """A sample whose weights come piece by piece, in any order."""

    def __init__(self, sample: Sample, folder: Path) -> None:
        self.source, self.over = folder / "source", threading.Event()
        shutil.copytree(sample.repo, self.source)
        self.whole = [it for it in sample.repo.rglob("*") if it.suffix in WEIGHTS]
        self.bodies = {
            self.source / it.relative_to(sample.repo): it.read_bytes() for it in self.whole
        }
        for path in self.bodies:
            path.unlink()
        self.parts = {
            path: PartFile(path, Expected(len(body), sha256=hashlib.sha256(body).hexdigest()))
            for path, body in self.bodies.items()
        }
        for path in self.bodies:
            path.with_name(f"{path.name}.pieces").unlink()  # no file of the SAE

    @contextmanager
    def announced(self) -> Iterator[None]:
        with ExitStack() as stack:
            for part in self.parts.values():
                stack.enter_context(part.announced(self.over))
            yield

    def come(self, but_last: bool = False) -> None:
        dice = random.Random(5)
        todo = [(path, piece) for path, part in self.parts.items() for piece in part.missing()]
        dice.shuffle(todo)
        for path, piece in todo[: -1 if but_last else None]:
            for start in range(piece.start, piece.stop, 300):
                stop = min(start + 300, piece.stop)
                self.parts[path].write(piece.number, self.bodies[path][start:stop])
            if dice.random() < 0.1:
                time.sleep(0.002)


def order(sample: Sample, source: Path) -> Order:
    return Order(source, sample.where, sample.repo_id, sample.facts, {})


def plain(sample: Sample) -> bool:
    info = converter.inspect(sample.repo, sample.where, sample.repo_id, sample.facts)
    return info.get("architecture") not in NOT_PLAIN


@pytest.mark.parametrize("sample", [it for it in SAMPLES if plain(it)], ids=lambda it: it.name)
def test_what_is_made_meanwhile_is_what_is_made_of_whole_files(
    sample: Sample, tmp_path: Path
) -> None:
    converter.convert(
        sample.repo, tmp_path / "truth", "mistudio", sample.where, sample.repo_id, sample.facts
    )
    arriving, draft = Arriving(sample, tmp_path), tmp_path / "draft"
    draft.mkdir()
    with ThreadPoolExecutor(1) as pool, arriving.announced():
        with Making(order(sample, arriving.source), draft, arriving.over) as making:
            coming = pool.submit(arriving.come)
            made = making.result(Silent())
        coming.result()
    assert made.certificate.passed
    weights = (tmp_path / "truth" / "checkpoint.safetensors").read_bytes()
    assert (draft / "checkpoint.safetensors").read_bytes() == weights
    told = {file.path.name: file.sha256 for file in made.files}
    assert told["checkpoint.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert told.keys() == {"checkpoint.safetensors", "metadata.json"}


def test_whoever_waits_for_bytes_that_never_come_stops_when_it_is_over(tmp_path: Path) -> None:
    sample = next(it for it in SAMPLES if it.name == "saelens_v6_standard")
    arriving, draft = Arriving(sample, tmp_path), tmp_path / "draft"
    draft.mkdir()
    begun = time.monotonic()
    with arriving.announced():
        with Making(order(sample, arriving.source), draft, arriving.over) as making:
            arriving.come(but_last=True)
            assert not making._comparing.done()
        with pytest.raises((Stopped, SaeError)):
            making.result(Silent())
    assert time.monotonic() - begun < 60


def test_a_file_that_does_not_grow_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"here")
    growing.wait_for(path, 0, 4)
    with path.open("rb") as file, growing.announced(file.fileno(), lambda start, stop: stop <= 4):
        assert growing.is_known(path)
        assert growing.read(file, path, 4) == b"here"
    assert not growing.is_known(path)


def test_a_file_is_known_under_every_name_that_it_has(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"")
    os.link(one, other)
    with one.open("rb") as file, growing.announced(file.fileno(), lambda start, stop: True):
        assert growing.is_known(other)


def test_whoever_hears_of_a_file_finds_it_as_long_as_it_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its hash could be that of nothing."""
    lengths, announced = list[int](), growing.announced

    def noted(descriptor: int, has: growing.Has) -> Any:
        lengths.append(os.fstat(descriptor).st_size)
        return announced(descriptor, has)

    monkeypatch.setattr(growing, "announced", noted)
    converter.convert(write_saelens(tmp_path / "in"), tmp_path / "out", "mistudio")
    assert lengths == [(tmp_path / "out" / "checkpoint.safetensors").stat().st_size]
