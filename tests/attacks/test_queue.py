"""Row S39: what somebody else puts into the queue runs nothing and stops nobody.

A job's row decides what is done; the queue only says which row to look at.
"""

import json
import os
import pickle
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import pytest
from rq.job import Job as Queued

from tests.apps import App, queue_of, wait_for
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files
from tests.visitor import Visitor

pytestmark = pytest.mark.processes
RUN = "saes.jobs.take_turn"
ENDED = (None, b"failed", b"finished")


class Payload:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def rows(app: App) -> list[Any]:
    """Everything that a job could have changed."""
    with sqlite3.connect(app.data_dir / "mistudio.sqlite3") as database:
        saes = database.execute("SELECT id, status, updated_at FROM saes_sae ORDER BY id")
        jobs = database.execute("SELECT id, state, attempt, version FROM saes_job ORDER BY id")
        found = [*saes.fetchall(), *jobs.fetchall()]
    database.close()
    return found


def put(app: App, data: bytes, **fields: Any) -> Queued:
    """A job of these very bytes, as nobody's client would write it."""
    queue = queue_of(app)
    job = queue.enqueue_job(Queued.create(RUN, connection=queue.connection))
    queue.connection.lrem(queue.key, 0, job.id)
    for name, value in {"data": data, **fields}.items():
        queue.connection.hset(job.key, name, value)
    queue.connection.lpush(queue.key, job.id)
    return job


def told(function: str, args: Any = (), kwargs: Any = None, instance: Any = None) -> bytes:
    return zlib.compress(json.dumps([function, instance, args, kwargs or {}]).encode())


def is_over(app: App, job: Queued) -> bool:
    """Taken from the queue and not at work."""
    return is_taken(app, job) and queue_of(app).connection.hget(job.key, "status") in ENDED


def is_taken(app: App, job: Queued) -> bool:
    queue = queue_of(app)
    return queue.connection.lpos(queue.key, job.id) is None


@pytest.fixture(scope="module")
def done(running_app: App, app_hub: LocalHub) -> str:
    """The id of a download that has ended: its row is what an attack would change."""
    repo = app_hub.add_repo("queue/saes", sample_files("saelens_v6_standard"))
    visitor = Visitor(running_app.url).sign_in(running_app.new_sign_in_url())
    where = "blocks.3.hook_resid_post"
    form = {"repo": repo.id, "repo_type": "model", "commit": repo.sha, "where": where}
    page = visitor.post("/hub/download/", form, page="/hub/")
    wait_for(lambda: 'data-state="ready"' in visitor.get(f"{page.url}card/").text)
    sae = page.url.rstrip("/").rpartition("/")[2]
    with sqlite3.connect(running_app.data_dir / "mistudio.sqlite3") as database:
        (job,) = database.execute("SELECT id FROM saes_job WHERE sae_id = ?", [sae]).fetchone()
    database.close()
    return str(job)


@pytest.fixture
def unharmed(running_app: App, done: str) -> Any:
    """The product is the same before and after, and its workers were never started again."""
    before, restarts = rows(running_app), len(restarted(running_app))
    workers = {worker.pid for worker in running_app.parts("worker")}
    yield
    assert rows(running_app) == before
    now = {worker.pid for worker in running_app.parts("worker")}
    assert now == workers, "\n".join(restarted(running_app) + quitting(running_app))
    assert len(restarted(running_app)) == restarts, "\n".join(quitting(running_app))
    assert running_app.is_healthy()
    assert done in str(before)
    last = queue_of(running_app).enqueue(RUN)
    wait_for(lambda: last.get_status(refresh=True) == "finished")


def quitting(app: App) -> list[str]:
    """What a worker says last, with its reason."""
    at = next((n for n, line in enumerate(app.lines) if "quitting" in line), len(app.lines))
    return app.lines[at : at + 60]


def restarted(app: App) -> list[str]:
    return [line for line in app.lines if "starting it again" in line]


@pytest.mark.parametrize(
    "function",
    ["os.mkdir", "os.system", "builtins.eval", "subprocess.check_output", "saes.moves.requeue",
     "saes.jobs.take_turn.__globals__", f" {RUN}", f"{RUN} ", "saes.jobs:take_turn",
     "saes.jobs.run", "saes.steering.delete_sae", "SAES.JOBS.TAKE_TURN", "", "saes.jobs.os.mkdir",
     "django.core.management.call_command"],
)  # fmt: skip
def test_s39_no_other_function_is_called(
    running_app: App, unharmed: None, tmp_path: Path, function: str
) -> None:
    canary = tmp_path / "made"
    job = put(running_app, told(function, [str(canary)]))
    wait_for(lambda: is_over(running_app, job))
    assert not canary.exists()


@pytest.mark.parametrize(
    "args",
    [["job_ffffffffffff"], ["../../etc/passwd"], ["' OR 1=1 --"], [""], [None], [1], [True], [[]],
     [{"id__startswith": "job_"}], [["job_1", "job_2"]], [], ["a", "b"], ["\x00"], ["x" * 10**6]],
    ids=lambda args: str(args)[:20],
)  # fmt: skip
def test_s39_an_id_that_is_none_changes_nothing(
    running_app: App, unharmed: None, args: list[Any]
) -> None:
    job = put(running_app, told(RUN, args))
    wait_for(lambda: is_over(running_app, job))


def test_s39_a_job_that_has_ended_is_not_done_again(
    running_app: App, unharmed: None, done: str
) -> None:
    for data in (told(RUN, [done]), told(RUN, [], {"job_id": done}), told(RUN, [done], None, "x")):
        job = put(running_app, data)
        wait_for(lambda job=job: is_over(running_app, job))  # type: ignore[misc]


def test_s39_nothing_that_the_queue_holds_is_unpickled(
    running_app: App, unharmed: None, tmp_path: Path
) -> None:
    canary = tmp_path / "made"
    evil = pickle.dumps(Payload(canary))
    function = pickle.dumps((RUN, None, (Payload(canary),), {}))
    jobs = [
        put(running_app, zlib.compress(evil)),
        put(running_app, evil),
        put(running_app, zlib.compress(function)),
        put(running_app, told(RUN, ["job_ffffffffffff"]), meta=evil, result=evil),
        put(running_app, told(RUN, ["job_ffffffffffff"]), success_callback_name="os.abort",
            failure_callback_name="os.abort", stopped_callback_name="os.abort"),
    ]  # fmt: skip
    for job in jobs:
        wait_for(lambda job=job: is_over(running_app, job))  # type: ignore[misc]
    assert not canary.exists()
    pickle.loads(evil)  # the payload would have worked
    assert canary.exists()


@pytest.mark.parametrize("field", ["exc_info", "created_at", "retries_left", "timeout"])
def test_s39_an_entry_that_cannot_be_read_stops_no_worker(
    running_app: App, unharmed: None, field: str
) -> None:
    job = put(running_app, told(RUN, ["job_ffffffffffff"]), **{field: b"\x80\x04 no text"})
    wait_for(lambda: is_taken(running_app, job))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 100, zlib.compress(b"["), zlib.compress(b"[" * 100_000), told(RUN)[:-3],
     zlib.compress(b'"' + b"x" * (64 << 20) + b'"')],
    ids=["empty", "zeros", "half", "deep", "cut", "64 MB"],
)  # fmt: skip
def test_s39_what_is_no_job_stops_no_worker(running_app: App, unharmed: None, data: bytes) -> None:
    job = put(running_app, data)
    wait_for(lambda: is_over(running_app, job))


def test_s39_no_process_of_the_product_listens_but_the_web(running_app: App) -> None:
    """Redis has its socket in a folder for one user; workers have none at all."""
    ports = {
        (line.laddr.port, line.laddr.ip)
        for part in ("redis", "web", "worker")
        for process in running_app.parts(part)
        for line in process.net_connections("inet")
        if line.status == "LISTEN"
    }
    assert ports == {(running_app.port, "127.0.0.1")}
    assert running_app.parts("redis") and running_app.parts("worker")
