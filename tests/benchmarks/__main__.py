"""`make bench`: how long conversions take beside cp, hashing and torch, and what they hold in memory.

Prints tables; with --write also into docs/benchmarks.md. Fails where a target is missed.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.made import grown, one_of_each_family, saelens
from tests.benchmarks.measured import Measure, Work, side_by_side

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BESIDE_CP, BESIDE_TORCH, MAX_ANONYMOUS = 1.5, 1 / 3, 256 << 20
Row = list[str]


def main() -> int:
    asked = _asked()
    shapes, large, family, runs = (
        ((128, 1024), (256, 2048), 2 << 20, 1)
        if asked.quick
        else ((2304, 65536), (4096, 262144), 300 << 20, asked.runs)
    )
    missed = list[str]()
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        text = "\n\n".join([
            "# Benchmarks",
            _machine(Path(made), runs),
            two_ways(Path(made), shapes, runs, missed, timed=not asked.quick),
            every_family(Path(made), family, runs, missed),
            memory(Path(made), large, missed),
            "\n".join(f"Missed: {it}." for it in missed) or "Every target is met.",
        ])  # fmt: skip
    sys.stdout.write(text + "\n")
    if asked.write:
        PAGE.write_text(text + "\n")
    return len(missed)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, one run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files are made; 25 GB of room")
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    return parser.parse_args()


def _machine(folder: Path, runs: int) -> str:
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True)
    cpu = next(
        (it for it in Path("/proc/cpuinfo").read_text().splitlines() if it[:10] == "model name"),
        platform.machine(),
    )
    libraries = ", ".join(f"{it} {version(it)}" for it in ("numpy", "torch", "safetensors"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, `make bench`. {cpu.rpartition(': ')[2]}, {os.cpu_count()} "
        f"cores; {kind.stdout.strip()}; Linux {platform.release()}; Python "
        f"{platform.python_version()}, {libraries}. Files are in the page cache; each figure is the "
        f"median of {runs} runs taken in turns, each in a process of its own, imports not counted."
    )


def two_ways(
    folder: Path, shape: tuple[int, int], runs: int, missed: list[str], timed: bool = True
) -> str:
    """SAELens to miStudio and back, both matrices turned."""
    source, native = saelens(folder / "saelens", *shape), folder / "native"
    rows = list[Row]()
    side_by_side({"": _convert(source, native, "mistudio")}, 0)
    _run_once(_convert(source, native, "mistudio"))
    for there, here, to in ((source, native, "mistudio"), (native, source, "saelens")):
        [weights], [copy] = _weights(there), _weights(here)
        found = side_by_side(
            {
                "cp": Work("cp", ["cp", str(weights), str(folder / "cp")], folder / "cp"),
                "torch": Work(
                    "usual",
                    {"source": str(weights), "target": str(folder / "usual")},
                    folder / "usual",
                ),
                "convert": _convert(there, folder / "out", to, certify=False),
                "certified": _convert(there, folder / "out", to),
                "sha256 of source": Work("sha256", {"path": str(weights)}),
                "sha256 of result": Work("sha256", {"path": str(copy)}),
            },
            runs,
        )
        rows += [_timed(to, name, it, found["cp"], weights) for name, it in found.items()]
        missed += _misses(f"to {to}", found, timed)
    return _table(("", "", "s", "MB/s", "x cp", "imports s", "anonymous MB"), rows)


def _misses(name: str, found: dict[str, Measure], timed: bool) -> Iterable[str]:
    seconds = {key: it.seconds for key, it in found.items()}
    hashes = seconds["sha256 of source"] + seconds["sha256 of result"]
    targets = {
        "convert at most 1.5 x cp": ("convert", BESIDE_CP * seconds["cp"]),
        "convert at most a third of torch": ("convert", BESIDE_TORCH * seconds["torch"]),
        "certified at most 2 x cp and both hashes": ("certified", 2 * seconds["cp"] + hashes),
    }
    for target, (key, most) in targets.items():
        if timed and seconds[key] > most:
            yield f"{name}: {target} ({seconds[key]:.2f} s, not {most:.2f} s)"
    yield from _too_large(name, found["certified"])


def _too_large(name: str, measure: Measure) -> Iterable[str]:
    if measure.anonymous > MAX_ANONYMOUS:
        yield f"{name}: at most 256 MB of memory ({measure.anonymous >> 20} MB)"


def every_family(folder: Path, nbytes: int, runs: int, missed: list[str]) -> str:
    rows = list[Row]()
    for slug, sample in sorted(one_of_each_family().items()):
        source, to = grown(sample, folder / "grown", nbytes), _other(slug)
        told = {"where": sample.where, "repo_id": sample.repo_id, "facts": sample.facts}
        copy = ["cp", "-r", str(source), str(folder / "cp")]
        found = side_by_side(
            {
                "cp": Work("cp", copy, folder / "cp"),
                "convert": _convert(source, folder / "out", to, certify=False, **told),
                "certified": _convert(source, folder / "out", to, **told),
            },
            runs,
        )
        rows += [_timed(slug, name, it, found["cp"], source) for name, it in found.items()]
        missed += _too_large(slug, found["certified"])
        shutil.rmtree(source)
    return _table(("", "", "s", "MB/s", "x cp", "imports s", "anonymous MB"), rows)


def memory(folder: Path, shape: tuple[int, int], missed: list[str]) -> str:
    raise NotImplementedError


def _other(slug: str) -> str:
    return "saelens" if slug == "mistudio" else "mistudio"
