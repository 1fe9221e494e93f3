"""`make bench`: how long conversions take beside cp, hashing and torch, and what memory they take;
and whole downloads beside the Hub's own client.

Prints tables; with --write also into docs/benchmarks.md. Fails where a target is missed.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from saes.converter import convert
from tests.benchmarks import downloads
from tests.benchmarks.made import grown, one_of_each_family, saelens, weights
from tests.benchmarks.measured import Measure, Task, Work, machine, side_by_side

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
HELD = 256 << 20  # bytes of anonymous memory, at most
HEAD = "| {} | MB | cp s | convert s | MB/s | x cp | with certificate and hashes s | memory MB |"
Shape = tuple[int, int]
Found = Mapping[str, Measure]


class Bench:
    """Tables, and in words which targets were missed."""

    def __init__(self, folder: Path, runs: int) -> None:
        self._folder, self._runs = folder, runs
        self.missed: list[str] = []

    def both_ways(self, shape: Shape, timed: bool) -> str:
        """SAELens to miStudio and back: both matrices turned."""
        source, native = saelens(self._folder / "saelens", *shape), self._folder / "native"
        convert(source, native, to="mistudio", certify=False)
        rows, beside = _head("to"), "\n\n| to | torch s | x torch | sha256 of both s | imports s |"
        beside += "\n" + "|---" * 5 + "|"
        for there, here, to in ((source, native, "mistudio"), (native, source, "saelens")):
            found = self._measured(there, to, {}, here)
            rows += _row(to, _size(there), found)
            beside += _beside(to, found)
            self._judge_memory(to, found)
            if timed:
                self._judge_time(to, found)
        shutil.rmtree(source)
        shutil.rmtree(native)
        return rows + beside

    def every_family(self, nbytes: int) -> str:
        rows = _head("from")
        for slug, sample in sorted(one_of_each_family().items()):
            source = grown(sample, self._folder / "grown", nbytes)
            told = {"where": sample.where, "repo_id": sample.repo_id, "facts": sample.facts}
            found = self._measured(source, "saelens" if slug == "mistudio" else "mistudio", told)
            rows += _row(slug, _size(source), found)
            self._judge_memory(slug, found)
            shutil.rmtree(source)
        return rows

    def large(self, shape: Shape) -> str:
        """One run: memory is flat whatever the size."""
        source = saelens(self._folder / "saelens", *shape)
        found = Bench(self._folder, 1)._measured(source, "mistudio", {})
        self._judge_memory("the large one", found)
        size = _size(source)
        shutil.rmtree(source)
        return _head("to") + _row("mistudio", size, found)

    def downloads(self, shape: Shape, timed: bool) -> str:
        """From the request to ready, and what users do without miStudio."""
        source = saelens(self._folder / "saelens", *shape)
        found = downloads.over_each_line(source, self._folder, self._runs)
        if timed:
            self.missed += [it for line in found for it in downloads.missed(line, found[line])]
        size = _size(source)
        shutil.rmtree(source)
        return downloads.table(found, size)

    def _measured(
        self, source: Path, to: str, told: Mapping[str, Any], result: Path | None = None
    ) -> Found:
        """With `result`, also torch's usual way from the source, and the hashes of both."""
        out, copy, (file, *_) = self._folder / "out", self._folder / "copy", weights(source)
        told = {**told, "source": str(source), "target": str(out), "to": to}
        works: dict[str, Task] = {
            "cp": Work("cp", [str(it) for it in ("-r", source, copy)], copy),
            "convert": Work("convert", {**told, "certify": False}, out),
            "certified": Work("convert", told, out),
        }
        if result is not None:
            works |= {
                "torch": Work("usual", {"source": str(file), "target": str(copy)}, copy),
                "hash": Work("sha256", {"path": str(file)}),
                "hash of result": Work("sha256", {"path": str(weights(result)[0])}),
            }
        return side_by_side(works, self._runs)

    def _judge_time(self, to: str, found: Found) -> None:
        seconds = {name: it.seconds for name, it in found.items()}
        hashes = seconds["hash"] + seconds["hash of result"]
        for name, most, words in (
            ("convert", 1.5 * seconds["cp"], "1.5 x cp"),
            ("convert", seconds["torch"] / 3, "a third of torch's way"),
            ("certified", 2 * seconds["cp"] + hashes, "2 x cp and both hashes"),
        ):
            if seconds[name] > most:
                took = f"{seconds[name]:.2f} s, not {most:.2f} s"
                self.missed.append(f"to {to}: {name} takes more than {words} ({took})")

    def _judge_memory(self, name: str, found: Found) -> None:
        if found["certified"].anonymous > HELD:
            self.missed.append(f"{name}: {found['certified'].anonymous >> 20} MB of memory")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in weights(folder))


def _head(first: str) -> str:
    return HEAD.format(first) + "\n" + "|---" * HEAD.count(" |") + "|"


def _row(name: str, size: int, found: Found) -> str:
    copy, plain, certified = (found[it].seconds for it in ("cp", "convert", "certified"))
    held = max(found[it].anonymous for it in ("convert", "certified")) >> 20
    return (
        f"\n| {name} | {size / 1e6:,.0f} | {copy:.2f} | {plain:.2f} | {size / plain / 1e6:,.0f} "
        f"| {plain / copy:.2f} | {certified:.2f} | {held} |"
    )


def _beside(to: str, found: Found) -> str:
    usual, plain = found["torch"].seconds, found["convert"].seconds
    hashes = found["hash"].seconds + found["hash of result"].seconds
    imports = f"{found['convert'].imports:.2f}, torch {found['torch'].imports:.2f}"
    return f"\n| {to} | {usual:.2f} | {plain / usual:.2f} | {hashes:.2f} | {imports} |"


def _parts(bench: Bench, only: str | None, quick: bool) -> Iterator[str]:
    both, family, large = ((2304, 65536), 300 << 20, (4096, 262144))
    if quick:
        both, family, large = ((128, 1024), 1 << 20, (256, 2048))
    if only != "conversions":
        yield "## Downloads, from the request to ready\n\n" + bench.downloads(both, not quick)
    if only != "downloads":
        yield "## SAELens and miStudio, both matrices turned\n\n" + bench.both_ways(both, not quick)
        yield "## Every family\n\n" + bench.every_family(family)
        yield "## Memory stays flat (one run)\n\n" + bench.large(large)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, one run, no target")
    parser.add_argument("--only", choices=("conversions", "downloads"), help="not with --write")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--folder", help="where the files are made; 20 GB of room")
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    asked = parser.parse_args()
    if asked.write and (asked.quick or asked.only):
        parser.error("--write is for the whole bench")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        bench = Bench(Path(made), 1 if asked.quick else asked.runs)
        text = "\n\n".join([
            "# Benchmarks", machine(Path(made)), *_parts(bench, asked.only, asked.quick),
            "\n".join(f"* Missed: {it}." for it in bench.missed) or "Every target is met.",
        ])  # fmt: skip
    sys.stdout.write(text + "\n")
    if asked.write:
        PAGE.write_text(text + "\n")
    return len(bench.missed)


if __name__ == "__main__":
    sys.exit(main())
