"""Row S41: whoever comes at the same instant, one of them wins, and what is left is whole."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from saes import converter, jobs, moves, parts, queueing, services, steering
from saes.models import Job, Sae
from saes.processes import this_process
from tests.apps import wait_for
from tests.hub import LocalHub, faults
from tests.jobs.made import WEIGHTS, in_threads, is_ready, made_sae, parts_of, started
from tests.jobs.test_download import in_background
from tests.jobs.test_moods import is_body
from tests.jobs.test_one_winner import dead_process

pytestmark = pytest.mark.django_db(transaction=True)
REPO = "alice/sae"
SIZE = len(made_sae()[WEIGHTS])


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)
    monkeypatch.setattr(parts, "PIECE", 421_000)  # five of one size


@pytest.fixture(autouse=True)
def repo(hub: LocalHub) -> None:
    hub.add_repo(REPO, made_sae())


def bodies(hub: LocalHub) -> int:
    return sum(it.sent for it in hub.log.requests(WEIGHTS, "cdn") if it.sent > 150_000)


def test_ending_cancelling_pausing_and_deleting_at_one_instant_have_one_winner() -> None:
    for _ in range(15):
        sae = Sae.objects.create(name="an SAE", source=Sae.Source.HUGGINGFACE)
        made = Job.objects.create(kind=Job.Kind.DOWNLOAD, sae=sae)
        job = Job.objects.claim(made.id, this_process())
        assert job is not None
        won: list[str] = []

        def end(job: Job = job, won: list[str] = won) -> None:
            if jobs._end(job, Job.State.DONE):
                won.append("done")

        def cancel(job: Job = job, won: list[str] = won) -> None:
            if moves.cancel([job.id]):
                won.append("cancelled")

        def pause(job: Job = job, won: list[str] = won) -> None:
            if moves.pause([job.id]):
                won.append("paused")

        def delete(sae: Sae = sae) -> None:
            Sae.objects.filter(id=sae.id).delete()

        works: list[Callable[[], object]] = [
            end,
            cancel,
            pause,
            *random.sample([delete], random.randint(0, 1)),
        ]
        assert not any(in_threads(*works))
        row = Job.objects.filter(id=job.id).first()
        # A pause may be followed by a cancel, which may take paused jobs; nothing else may.
        assert len(won) <= 1 or sorted(won) == ["cancelled", "paused"]
        if delete in works:
            assert row is None
            continue
        assert row is not None
        assert row.state == ("cancelled" if "cancelled" in won else won[0])
        status = Sae.objects.get(id=sae.id).status
        assert status == {"done": "ready", "cancelled": "error", "paused": "paused"}[row.state]


@pytest.mark.parametrize("seed", range(6))
def test_a_download_that_is_cancelled_or_deleted_at_any_moment_leaves_nothing_half(
    hub: LocalHub, seed: int
) -> None:
    dice = random.Random(seed)
    hub.bytes_per_second = 1_500_000
    job = started(REPO)
    worker = in_background(job)
    time.sleep(dice.uniform(0.2, 1.2))
    sae = services.sae_of(job.sae_id)
    acts: list[Callable[[], object]] = [
        lambda: moves.cancel([job.id]),
        lambda: moves.pause([job.id]),
    ]
    if seed % 2:
        acts.append(lambda: steering.delete_sae(None, sae, keep_files=False))
    in_threads(*acts)
    worker.join()
    home = settings.DATA_DIR / "saes" / job.sae_id
    if seed % 2:
        assert not Sae.objects.filter(id=job.sae_id).exists()
        assert not home.exists()
        return
    job.refresh_from_db()
    sae.refresh_from_db()
    assert job.state in ("cancelled", "done")
    assert sae.status == ("ready" if job.state == "done" else "error")
    assert parts_of(sae.id) == {}
    if job.state == "cancelled":
        jobs.run(steering.retry(None, sae).id)
    assert is_ready(sae)


def test_many_workers_at_one_job_are_one(hub: LocalHub) -> None:
    job = started(REPO)
    assert in_threads(*[lambda: jobs.run(job.id)] * 4, *[jobs.take_turn] * 4) == [None] * 8
    job.refresh_from_db()
    assert (job.state, job.attempt) == (Job.State.DONE, 1)
    assert bodies(hub) == SIZE


def test_a_worker_that_was_taken_for_dead_stops_and_the_next_one_goes_on(hub: LocalHub) -> None:
    """As where the clock jumped an hour ahead, or the machine slept: no heartbeat is recent."""
    slow = hub.faults.add(is_body, faults.slow(300_000), times=None)
    job = started(REPO)
    old = in_background(job)
    wait_for(lambda: Job.objects.get(id=job.id).bytes_done > 100_000)
    Job.objects.filter(id=job.id).update(worker="elsewhere 1 1")
    while Job.objects.get(id=job.id).lease:
        Job.objects.filter(id=job.id).update(heartbeat_at=timezone.now() - timedelta(hours=1))
        recovery_without_queue()
    slow.times = 0
    hub.faults.clear()
    new = in_background(job)
    old.join()
    new.join()
    job.refresh_from_db()
    assert (job.state, job.attempt) == (Job.State.DONE, 2)
    assert is_ready(services.sae_of(job.sae_id))
    assert bodies(hub) <= SIZE + 4 * 150_000


def recovery_without_queue() -> None:
    for job in Job.objects.lost():
        moves.requeue(job)


def test_a_job_of_a_killed_worker_that_was_cancelled_meanwhile_stays_cancelled(
    hub: LocalHub,
) -> None:
    job = started(REPO)
    assert Job.objects.claim(job.id, dead_process())
    services.library().open_home(job.sae_id)
    (settings.DATA_DIR / "saes" / job.sae_id / "parts").mkdir()
    raised = in_threads(
        lambda: moves.cancel([job.id]), *[lambda: moves.requeue(Job.objects.get(id=job.id))] * 3
    )
    assert raised == [None] * 4
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    assert parts_of(job.sae_id) == {}


# --- a database that is locked --------------------------------------------------------------------

LOCK = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
database.execute("BEGIN IMMEDIATE")
sys.stdout.write("locked")
sys.stdout.flush()
time.sleep(float(sys.argv[2]))
database.execute("COMMIT")
"""


@pytest.fixture
def locker() -> Iterator[list["subprocess.Popen[str]"]]:
    made: list[subprocess.Popen[str]] = []
    yield made
    for it in made:
        with it:
            it.kill()


def lock_for(seconds: float) -> "subprocess.Popen[str]":
    """Another process holds the database for so long; it does by the time this returns."""
    name = str(connection.settings_dict["NAME"])
    process = subprocess.Popen(
        [sys.executable, "-c", LOCK, name, str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.read(6) == "locked"
    return process


def after(event: threading.Event, act: Callable[..., Any]) -> Callable[..., Any]:
    """It would else be over before anybody sees that it has begun."""

    def later(*args: Any) -> Any:
        assert event.wait(30)
        return act(*args)

    return later


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has one lock for all")
@pytest.mark.parametrize("stage", ["looking", "downloading", "verifying"])
def test_a_database_that_is_locked_for_some_seconds_costs_those_seconds_only(
    hub: LocalHub,
    locker: list["subprocess.Popen[str]"],
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_locked = threading.Event()
    monkeypatch.setattr(converter, "certify", after(is_locked, converter.certify))
    hub.faults.add(is_body, faults.slow(800_000), times=None)
    hub.faults.add("/tree/", faults.slow(2_000), times=1)
    job = started(REPO)
    worker = in_background(job)
    wait_for(lambda: Job.objects.get(id=job.id).stage == stage)
    locker.append(lock_for(3))
    is_locked.set()
    worker.join(timeout=40)
    assert not worker.is_alive()
    job.refresh_from_db()
    assert (job.state, job.attempt, job.error_message) == (Job.State.DONE, 1, "")
    assert bodies(hub) == SIZE


def test_a_lock_that_lasts_longer_than_a_worker_waits_gives_the_job_back(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, locker: list["subprocess.Popen[str]"]
) -> None:
    """At the one write that matters: the file is there, the row is not told."""
    true = services.record_file
    once = threading.Event()

    def locked(*given: object) -> None:
        if not once.is_set():
            once.set()
            locker.append(lock_for(1.5))
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA busy_timeout = 200")
            try:
                true(*given)  # type: ignore[arg-type]
            finally:
                with connection.cursor() as cursor:
                    cursor.execute("PRAGMA busy_timeout = 20000")
        else:
            true(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(services, "record_file", locked)
    job = started(REPO)
    jobs.run(job.id)
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED
    jobs.run(job.id)
    assert is_ready(services.sae_of(job.sae_id))
    assert bodies(hub) == SIZE
