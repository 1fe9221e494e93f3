"""A publishing killed with SIGKILL at seven points, everything at once, makes one commit."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps import App, make_app, manage, wait_for
from tests.hub import LocalHub, upload_faults
from tests.jobs.made import made_sae
from tests.jobs.test_kills import kill_everything

pytestmark = pytest.mark.processes
REPO = "alice/published"
# Stage, and percent of the whole job that it must have come to.
POINTS = [
    ("converting", 0), ("converting", 20), ("converting", 40), ("uploading", 50),
    ("uploading", 60), ("uploading", 80), ("verifying", 95),
]  # fmt: skip


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as local:
        local.add_token("hf_writes", "alice", "write")
        local.add_repo("someone/sae", made_sae(5, d_in=768, d_sae=8192))  # 50 MB
        local.bytes_per_second = None
        yield local


def row(app: App) -> dict[str, object]:
    """The newest job that publishes, read beside the running product."""
    path = f"file:{app.data_dir}/mistudio.sqlite3?mode=ro"
    with sqlite3.connect(path, uri=True, timeout=10) as database:
        database.row_factory = sqlite3.Row
        found = database.execute(
            "select j.state, j.stage, j.progress, j.error_message, p.'commit', p.verified_at "
            "from saes_job j join saes_publication p on p.id = j.publication_id"
        ).fetchone()
    database.close()
    return dict(found) if found else {}


def has_come_to(app: App, stage: str, percent: float) -> bool:
    job = row(app)
    assert job["state"] not in ("failed", "crashed"), job
    if job["state"] == "done" or str(job["stage"]) > stage:
        return True  # it was faster than the look: the kill comes later then
    return job["stage"] == stage and float(str(job["progress"])) >= percent


def test_a_publishing_killed_at_seven_points_makes_one_verified_commit(
    hub: LocalHub, tmp_path: Path
) -> None:
    app = make_app(
        tmp_path / "data", HF_ENDPOINT=hub.url, HF_TOKEN="hf_writes", MISTUDIO_WORKERS="1"
    )
    app.start().wait_until_ready()
    assert manage("sae_download", "someone/sae", "--wait", env=app.env).returncode == 0
    # Slow enough on the way up to be hit there, and so is what is read back.
    hub.faults.add("", upload_faults.slow_upload(12_000_000), method="PUT", times=None)
    sae = sqlite_one(app, "select id from saes_sae")
    words = ["sae_upload", sae, "--repo", REPO, "--path", "layer_3", "--license", "mit", "--yes"]
    asked = manage(*words, env=app.env)
    assert asked.returncode == 0, asked.stderr
    for stage, percent in POINTS:
        wait_for(lambda s=stage, p=percent: has_come_to(app, s, p), 60)  # type: ignore[misc]
        kill_everything(app)
        app.lines.clear()
        app.start().wait_until_ready()
    wait_for(lambda: row(app)["state"] == "done", 90)
    app.stop()
    told, repo = row(app), hub.repo(REPO)
    assert [it.title for it in repo.history(repo.head)][:1] == ["Publish layer_3"]
    assert len(repo.commits) == 2
    assert told["commit"] == repo.sha and told["verified_at"]


def sqlite_one(app: App, question: str) -> str:
    with sqlite3.connect(f"file:{app.data_dir}/mistudio.sqlite3?mode=ro", uri=True) as database:
        (value,) = database.execute(question).fetchone()
    database.close()
    return str(value)
