"""Whole downloads: from the request to ready, beside the Hub's own client and torch's usual way.

Hub, product and client are processes of their own, as they are where people use them.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from saes.progress import Stage
from tests.apps import ROOT, App, make_app, manage
from tests.benchmarks.made import weights
from tests.benchmarks.measured import Measure, Task, Work, anonymous, side_by_side

REPO = "bench/sae"
LOOKS_EVERY = 0.25  # seconds: a page that is open looks as often, and it takes time from the work
HF, TORCH, OURS, DISK = "hf download", "hf download and torch", "miStudio", "dd"
REST = "rest"  # waiting for a worker, and whatever has no stage
SPENT = (Stage.LOOKING, Stage.DOWNLOADING, Stage.CONVERTING, Stage.VERIFYING, REST)
HEAD = (
    "| line | MB | hf download s | and torch s | miStudio s | MB/s | x hf download "
    "| x hf download and torch | memory MB | dd with fsync s |"
)
NOTE = (
    "The SAE is new in each run. miStudio's time ends when its status is ready: every byte was "
    "compared with the Hub's hash, converted, certified and fsynced, source and result. The others "
    "do none of that; `dd` writes and fsyncs the source alone. Memory is the job's."
)
Found = Mapping[str, Measure]


@dataclass(frozen=True)
class Line:
    """A way to the hub, and what a download may take over it: so many times what another takes."""

    name: str
    bytes_per_second: float | None
    most: float
    beside: str


LINES = (Line("loopback", None, 1.0, TORCH), Line("100 MB/s", 100e6, 1.25, HF))


def over_each_line(source: Path, folder: Path, runs: int) -> dict[Line, Found]:
    """Of the SAE in `source`; `folder` is for what is written."""
    return {line: _over(line, source, folder, runs) for line in LINES}


def table(found: Mapping[Line, Found], size: int) -> str:
    rows = [HEAD, "|---" * HEAD.count(" |") + "|"]
    rows += [_row(line, measures, size) for line, measures in found.items()]
    names = SPENT
    rows += ["", "| line | " + " s | ".join(names) + " s |", "|---" * (len(names) + 1) + "|"]
    for line, measures in found.items():
        spent = (f"{measures[OURS].stages[name]:.2f}" for name in names)
        rows.append(f"| {line.name} | " + " | ".join(spent) + " |")
    return "\n".join([*rows, "", NOTE])


def missed(line: Line, found: Found) -> list[str]:
    """In words; nothing where the target is met."""
    took, most = found[OURS].seconds, line.most * found[line.beside].seconds
    if took <= most:
        return []
    words = f"{line.most:g} x {line.beside}" if line.most != 1 else line.beside
    return [f"over {line.name}: miStudio takes more than {words} ({took:.2f} s, not {most:.2f} s)"]


def _row(line: Line, found: Found, size: int) -> str:
    plain, usual, ours, disk = (found[it].seconds for it in (HF, TORCH, OURS, DISK))
    return (
        f"| {line.name} | {size / 1e6:,.0f} | {plain:.2f} | {usual:.2f} | {ours:.2f} "
        f"| {size / ours / 1e6:,.0f} | {ours / plain:.2f} | {ours / usual:.2f} "
        f"| {found[OURS].anonymous >> 20} | {disk:.2f} |"
    )


def _over(line: Line, source: Path, folder: Path, runs: int) -> Found:
    (file,), copy, fetched = weights(source), folder / "copy", folder / "fetched"
    with _hub(source, line.bytes_per_second) as url, _product(folder / "product", url) as ours:
        told = {"endpoint": url, "repo_id": REPO, "folder": str(fetched)}
        written = [f"if={file}", f"of={copy}", "bs=4M", "conv=fsync", "status=none"]
        works: dict[str, Task] = {
            HF: Work("hf_download", told, fetched),
            TORCH: Work("hf_and_torch", told, fetched),
            OURS: ours,
            DISK: Work("dd", written, copy),
        }
        return side_by_side(works, runs)


@contextmanager
def _hub(source: Path, bytes_per_second: float | None) -> Iterator[str]:
    """Its address, once it serves and has hashed what it serves."""
    command = [sys.executable, "-m", "tests.hub", "--port", "0", "--cdn-port", "0"]
    command += ["--repo", f"{REPO}={source}"]
    if bytes_per_second:
        command += ["--link-bytes-per-second", str(bytes_per_second)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            urlopen(f"{url}/api/models/{REPO}/tree/main").close()
            yield url
        finally:
            process.terminate()


@contextmanager
def _product(folder: Path, url: str) -> Iterator["Product"]:
    app = make_app(folder / "data", HF_ENDPOINT=url, HF_HOME=str(folder / "hf")).start()
    try:
        yield Product(app.wait_until_ready())
    finally:
        app.stop()
        shutil.rmtree(folder)


class Product:
    """A running miStudio: each run brings the SAE in, by the API, and follows it there."""

    def __init__(self, app: App) -> None:
        self._app, self._sae_id = app, ""
        self._token = manage("create_api_token", env=app.env).stdout.splitlines()[-1]

    def clean(self) -> None:
        """The SAE that is there goes, and its files."""
        if self._sae_id:
            self._ask(f"saes/{self._sae_id}", method="DELETE")
            self._sae_id = ""

    def run(self) -> Measure:
        begun = time.time()
        asked = self._ask("saes/download", {"repo_id": REPO, "filepath": "."})
        self._sae_id = asked["id"]
        return self._follow(asked["job_id"], begun)

    def _follow(self, job_id: str, begun: float) -> Measure:
        stages: dict[str, float] = dict.fromkeys(SPENT, 0.0)
        stage, seen, peak = REST, begun, 0
        while not (job := self._ask(f"jobs/{job_id}"))["ended_at"]:
            stages[stage] += (now := time.time()) - seen
            stage, seen = job["stage"] or REST, now
            peak = max(peak, self._memory())
            time.sleep(LOOKS_EVERY)
        if job["state"] != "done":
            raise SystemExit(f"miStudio failed: {job['error_message']}")
        end = datetime.fromisoformat(job["ended_at"]).timestamp()
        stages[stage] += end - seen
        return Measure(end - begun, 0.0, peak, stages)

    def _memory(self) -> int:
        """Of the job's process and of all that it has started."""
        workers = self._app.parts("worker")
        at_work = [it for worker in workers for it in worker.children(recursive=True)]
        return sum(anonymous(it.pid) for it in at_work)

    def _ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        sent = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self._app.url}/api/v1/{path}", data, sent, method=method)
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)
