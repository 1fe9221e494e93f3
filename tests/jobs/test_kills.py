"""A download killed with SIGKILL at ten points, everything at once, ends ready all the same.

Between looks at its row the job runs for moments and stands still else: on a fast machine a
stage would otherwise be over before anybody saw it.
"""

import sqlite3
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.apps import App, make_app, wait_for
from tests.hub import LocalHub
from tests.visitor import Visitor

pytestmark = pytest.mark.processes
REPO = "google/gemma-scope-2b-pt-res"
WHERE = "layer_3/width_32k/average_l0_50"
FILE = f"{WHERE}/params.npz"
D_IN, D_SAE = 512, 32768  # 134 MB: long enough in every stage to be hit there
# Stage, and how far it must have come, in percent of its bytes.
POINTS = [
    ("looking", 0), ("downloading", 0), ("downloading", 10), ("downloading", 35),
    ("downloading", 60), ("downloading", 90), ("converting", 0), ("converting", 40),
    ("verifying", 0), ("verifying", 50),
]  # fmt: skip
STAGES = ["", "looking", "downloading", "converting", "verifying"]
RUNS, STANDS = 0.005, 0.015  # seconds


def gemma_scope_sae(path: Path, d_in: int = D_IN, d_sae: int = D_SAE) -> Path:
    random = np.random.default_rng(3)
    small = np.float32(d_in**-0.5)
    np.savez(
        path,
        W_enc=random.standard_normal((d_in, d_sae), np.float32) * small,
        W_dec=random.standard_normal((d_sae, d_in), np.float32) * small,
        b_enc=np.full(d_sae, -0.1, np.float32),
        b_dec=np.zeros(d_in, np.float32),
        threshold=np.full(d_sae, 0.5, np.float32),
    )
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub(bytes_per_second=60_000_000) as local:
        local.add_repo(REPO, {FILE: gemma_scope_sae(tmp_path / "params.npz")})
        yield local


def row(app: App) -> dict[str, object]:
    """The newest job, read beside the running product."""
    path = f"file:{app.data_dir}/mistudio.sqlite3?mode=ro"
    with sqlite3.connect(path, uri=True, timeout=10) as database:
        database.row_factory = sqlite3.Row
        found = database.execute(
            "select j.*, s.status, s.hf_commit from saes_job j join saes_sae s on s.id = j.sae_id"
        ).fetchone()
    database.close()
    return dict(found)


def has_come_to(app: App, stage: str, percent: float) -> bool:
    """Whether it is there, or beyond. Then it stands still, until it is killed."""
    horses = app.horses()
    for horse in horses:
        horse.suspend()
    time.sleep(STANDS)
    if is_there(row(app), stage, percent):
        return True
    for horse in horses:
        horse.resume()
    time.sleep(RUNS)
    return False


def is_there(job: dict[str, object], stage: str, percent: float) -> bool:
    if job["status"] == "ready":
        raise AssertionError(f"it was ready before {stage} {percent} %")
    done, total = int(str(job["bytes_done"])), int(str(job["bytes_total"]))
    now, wanted = STAGES.index(str(job["stage"])), STAGES.index(stage)
    enough = now > wanted or (now == wanted and 100 * done >= percent * total)
    return job["state"] == "running" and enough


def gaps(app: App) -> set[tuple[int, int]]:
    """The ranges that the records of the part files say are missing; none without a record."""
    found: set[tuple[int, int]] = set()
    for record in app.data_dir.glob("saes/*/parts/*.pieces"):
        piece, *noted = (number for (number,) in struct.iter_unpack("<Q", record.read_bytes()))
        size = next(app.data_dir.parent.glob("params.npz")).stat().st_size
        for number, there in enumerate(noted):
            start, stop = number * piece + there, min((number + 1) * piece, size)
            found |= {(start, stop)} if start < stop else set()
    return found


def kill_everything(app: App) -> None:
    victims = app.descendants()
    app.process.kill()
    for victim in victims:
        if victim.is_running():
            victim.kill()
    app.wait()
    wait_for(lambda: not any(v.is_running() and v.status() != "zombie" for v in victims))


def test_a_download_killed_at_ten_points_goes_on_and_ends_ready(
    hub: LocalHub, tmp_path: Path
) -> None:
    app = make_app(tmp_path / "data", HF_ENDPOINT=hub.url, MISTUDIO_WORKERS="1")
    app.start().wait_until_ready()
    commit = hub.repo(REPO).sha
    form = {"repo": REPO, "repo_type": "model", "commit": commit, "where": WHERE}
    Visitor(app.url).sign_in(app.sign_in_url).post("/hub/download/", form)
    for stage, percent in POINTS:
        wait_for(lambda s=stage, p=percent: has_come_to(app, s, p))  # type: ignore[misc]
        kill_everything(app)
        assert row(app)["status"] != "ready"
        goes_on_where_it_was(hub, app)
    wait_for(lambda: row(app)["status"] == "ready")
    app.stop()
    assert not list(app.data_dir.glob("saes/*/parts/*"))


def goes_on_where_it_was(hub: LocalHub, app: App) -> None:
    """Start again; every range that is asked for is one that the records say is missing."""
    left, downloaded = gaps(app), bool(list(app.data_dir.glob("saes/*/source/**/*.npz")))
    time.sleep(0.1)
    hub.log.clear()
    app.lines.clear()
    app.start().wait_until_ready()
    wait_for(lambda: row(app)["state"] in ("running", "done"))
    if left:
        wait_for(lambda: bodies(hub))
        assert bodies(hub) <= left
    if downloaded:
        assert bodies(hub) == set()


def bodies(hub: LocalHub) -> set[tuple[int, int]]:
    """The ranges of weights: those that are no header reads."""
    asked = [(it[0] or 0, it[1] or 0) for it in hub.log.ranges(FILE) if it]
    return {(start, stop) for start, stop in asked if stop - start > 100_000}
