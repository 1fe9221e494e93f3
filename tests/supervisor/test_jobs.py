"""Jobs outlive the processes that do them; the queue runs one function and no other."""

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from rq import Callback
from safetensors.numpy import save

from saes.worker import SaeQueueJob
from tests.apps import App, manage, queue_of, wait_for
from tests.conftest import StartApp
from tests.hub import LocalHub, faults
from tests.jobs.test_moods import is_body

pytestmark = pytest.mark.processes
WIDTH, FEATURES = 64, 512
HELD = 300.0  # seconds
START = """
from saes import arrivals, jobs
from saes.hub import RepoRef
jobs.start_arrival(None, arrivals.DownloadRequest(RepoRef("alice/sae"), "."), None)
"""


def files() -> dict[str, bytes]:
    config = {
        "architecture": "standard",
        "d_in": WIDTH,
        "d_sae": FEATURES,
        "dtype": "float32",
        "hook_name": "blocks.3.hook_resid_post",
        "hook_layer": 3,
        "model_name": "gpt2-small",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
    }
    dice = np.random.default_rng(0)
    tensors = {
        "W_enc": dice.normal(size=(WIDTH, FEATURES)).astype("float32"),
        "W_dec": dice.normal(size=(FEATURES, WIDTH)).astype("float32"),
        "b_enc": np.zeros(FEATURES, "float32"),
        "b_dec": np.zeros(WIDTH, "float32"),
    }
    return {"cfg.json": json.dumps(config).encode(), "sae_weights.safetensors": save(tensors)}


@pytest.fixture
def slow_hub() -> Iterator[LocalHub]:
    """It stands still in the middle of the one SAE it has, for whoever is the first to ask."""
    with LocalHub() as hub:
        hub.add_repo("alice/sae", files(), lfs_from=1000)
        hub.faults.add(is_body, faults.stall(30_000, HELD))
        yield hub


def start_download(app: App) -> None:
    done = manage("shell", "-c", START, env=app.env)
    assert done.returncode == 0, done.stderr


def job(app: App) -> tuple[str, str]:
    """State and stage of the only job, from the database itself."""
    with sqlite3.connect(app.data_dir / "mistudio.sqlite3") as database:
        state, stage = database.execute("SELECT state, stage FROM saes_job").fetchone()
    database.close()
    return state, stage


@pytest.mark.alone
def test_a_stop_during_a_job_is_quick_and_the_next_start_ends_it(
    start_app: StartApp, slow_hub: LocalHub
) -> None:
    app = start_app(HF_ENDPOINT=slow_hub.url)
    start_download(app)
    wait_for(lambda: job(app) == ("running", "downloading"))
    horses = app.horses()
    begun = time.monotonic()
    assert app.stop() == 0
    assert time.monotonic() - begun < 10
    assert not [horse for horse in horses if horse.is_running()]
    assert job(app)[0] == "running"
    again = start_app(HF_ENDPOINT=slow_hub.url)
    wait_for(lambda: job(again)[0] == "done")


def test_a_killed_horse_leaves_its_job_to_the_next(start_app: StartApp, slow_hub: LocalHub) -> None:
    app = start_app(HF_ENDPOINT=slow_hub.url)
    start_download(app)
    wait_for(lambda: job(app) == ("running", "downloading"))
    (horse,) = app.horses()
    assert Path(f"/proc/{horse.pid}/oom_score_adj").read_text().strip() == "500"
    horse.kill()
    wait_for(lambda: job(app)[0] == "done")


def test_a_killed_worker_takes_its_horse_along(start_app: StartApp, slow_hub: LocalHub) -> None:
    app = start_app(HF_ENDPOINT=slow_hub.url)
    start_download(app)
    wait_for(lambda: job(app) == ("running", "downloading"))
    (horse,) = app.horses()
    parent = horse.parent()
    assert parent is not None
    parent.kill()
    wait_for(lambda: not horse.is_running())
    wait_for(lambda: job(app)[0] == "done")


def test_no_horse_outlives_a_killed_supervisor(start_app: StartApp, slow_hub: LocalHub) -> None:
    app = start_app(HF_ENDPOINT=slow_hub.url)
    start_download(app)
    wait_for(lambda: job(app) == ("running", "downloading"))
    family = app.descendants()
    assert set(app.horses()) <= set(family)
    app.kill()
    wait_for(lambda: not [member for member in family if member.is_running()])


def test_a_job_goes_on_while_the_queue_restarts(start_app: StartApp, slow_hub: LocalHub) -> None:
    slow_hub.faults.clear()
    slow_hub.faults.add(is_body, faults.stall(30_000, 8))
    app = start_app(HF_ENDPOINT=slow_hub.url)
    start_download(app)
    wait_for(lambda: job(app) == ("running", "downloading"))
    (horse,) = app.horses()
    worker = horse.parent()
    app.parts("redis")[0].kill()
    wait_for(lambda: job(app)[0] == "done")
    assert worker in app.parts("worker")


def test_a_queued_job_survives_a_kill_of_everything(
    start_app: StartApp, slow_hub: LocalHub
) -> None:
    app = start_app("--workers", "1", HF_ENDPOINT=slow_hub.url)
    for worker in app.parts("worker"):
        worker.suspend()
    start_download(app)
    assert job(app)[0] == "queued"
    app.kill()
    again = start_app(HF_ENDPOINT=slow_hub.url)
    wait_for(lambda: job(again)[0] == "done")


def test_the_queue_runs_no_other_function(running_app: App, tmp_path: Path) -> None:
    for number, function in enumerate(["os.mkdir", "os.system"]):
        target = tmp_path / str(number)
        argument = str(target) if function == "os.mkdir" else f"touch {target}"
        queued = queue_of(running_app).enqueue(function, argument, on_failure=Callback("os.abort"))
        wait_for(lambda queued=queued: queued.get_status(refresh=True) == "failed")  # type: ignore[misc]
        assert not target.exists()


def test_callbacks_of_a_queued_job_are_not_looked_at() -> None:
    queued = SaeQueueJob.create("os.getcwd", connection=Redis(), on_failure=Callback("os.abort"))
    assert queued.failure_callback is None
    assert queued.success_callback is None
    with pytest.raises(PermissionError):
        queued.perform()
