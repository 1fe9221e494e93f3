"""Work done side by side, in turns, the median of its runs: each piece in a process of its own."""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

SAMPLED_EVERY = 0.01  # seconds


@dataclass(frozen=True)
class Measure:
    seconds: float
    imports: float
    anonymous: int  # bytes, at most
    stages: Mapping[str, float] = field(default_factory=dict)  # where the seconds went, if known


class Task(Protocol):
    def clean(self) -> None:
        """Removes what a run has left."""

    def run(self) -> Measure:
        """Does it once."""


@dataclass(frozen=True)
class Work:
    """A function of work.py by its arguments, or a program. What it writes is removed before."""

    name: str
    arguments: Mapping[str, Any] | Sequence[str]
    writes: Path | None = None

    @property
    def command(self) -> list[str]:
        if not isinstance(self.arguments, Mapping):
            return [self.name, *self.arguments]
        told = json.dumps(dict(self.arguments))
        return [sys.executable, "-m", "tests.benchmarks.work", self.name, told]

    def clean(self) -> None:
        if self.writes is not None and self.writes.is_dir():
            shutil.rmtree(self.writes)
        elif self.writes is not None:
            self.writes.unlink(missing_ok=True)

    def run(self) -> Measure:
        begun, peak = time.perf_counter(), 0
        with subprocess.Popen(self.command, stdout=subprocess.PIPE) as process:
            while process.poll() is None:
                peak = max(peak, anonymous(process.pid))
                time.sleep(SAMPLED_EVERY)
            seconds = time.perf_counter() - begun
            if process.returncode or process.stdout is None:
                raise SystemExit(f"{self.name} failed.")
            told = json.loads(process.stdout.read() or "{}")
        return Measure(told.get("seconds", seconds), told.get("imports", 0.0), peak)


def side_by_side(works: Mapping[str, Task], runs: int) -> dict[str, Measure]:
    """By name. Each run begins with another: what a work leaves in memory changes the next one."""
    found: dict[str, list[Measure]] = {name: [] for name in works}
    names = list(works)
    for run in range(runs):
        first = run % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(_run(works[name]))
    for work in works.values():
        work.clean()
    return {name: _median(measures) for name, measures in found.items()}


def _median(runs: list[Measure]) -> Measure:
    return Measure(
        statistics.median(it.seconds for it in runs),
        statistics.median(it.imports for it in runs),
        max(it.anonymous for it in runs),
        {it: statistics.median(run.stages[it] for run in runs) for it in runs[0].stages},
    )


def _run(work: Task) -> Measure:
    """What was written before is flushed first: else the kernel makes the next one wait for it."""
    work.clean()
    os.sync()
    return work.run()


def anonymous(process: int) -> int:
    """Bytes of memory that are no file's. Zero once the process has ended."""
    try:
        held = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(held[1]) << 10 if held else 0


def machine(folder: Path) -> str:
    """What the figures were taken on."""
    told = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    disk = subprocess.run(["stat", "-fc", "%T", folder], capture_output=True, text=True, check=True)
    libraries = ", ".join(f"{it} {version(it)}" for it in ("numpy", "torch", "safetensors"))
    return (
        f"`make bench`, {datetime.now(UTC):%Y-%m-%d}: {told}, {os.cpu_count()} cores, "
        f"{disk.stdout.strip()}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"{libraries}. Files lie in the page cache; a figure is the median of runs taken in turns, "
        "each in a process of its own; imports are not counted; nothing is fsynced, if not said."
    )
