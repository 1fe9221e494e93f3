"""What the row of a job says while the Hub is moody, and how it ends: by itself, or at once."""

import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from saes import jobs, moves, parts, patience, queueing, recovery, services
from saes.hub import http
from saes.models import Job
from saes.recorder import JobReporter
from tests.apps import wait_for
from tests.hub import LocalHub, faults
from tests.hub.answers import Request
from tests.jobs.made import WEIGHTS, is_ready, made_sae, parts_of, started
from tests.jobs.test_download import in_background

pytestmark = pytest.mark.django_db(transaction=True)
REPO = "alice/sae"
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What the queue was told, which is nobody's here."""
    told: list[Job] = []
    monkeypatch.setattr(queueing, "enqueue", told.extend)
    monkeypatch.setattr("django_rq.get_queue", lambda name: SimpleNamespace(count=0))
    return told


@pytest.fixture(autouse=True)
def repo(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PIECE", 400_000)
    hub.add_repo(REPO, made_sae())


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Every version of the row that a worker wrote, as it is read afterwards."""
    seen: list[Row] = []
    true = JobReporter._write_row

    def written(reporter: JobReporter) -> bool:
        held = true(reporter)
        rows = Job.objects.filter(id=reporter.job.id, lease=reporter.job.lease).values()
        seen.extend(dict(row) for row in rows)
        return held

    monkeypatch.setattr(JobReporter, "_write_row", written)
    return seen


def never_goes_back(rows: list[Row]) -> bool:
    for name in ("progress", "version"):
        shown = [row[name] for row in rows]
        assert shown == sorted(shown)
    shown = [row["bytes_done"] for row in rows if row["stage"] == "downloading"]
    assert shown == sorted(shown)
    return True


def is_body(request: Request) -> bool:
    start, stop = request.asked or (0, 0)
    return request.origin == "cdn" and (stop or 0) - (start or 0) > 150_000


def is_header(request: Request) -> bool:
    return request.origin == "cdn" and not is_body(request)


def at(origin: str, method: str, text: str) -> Callable[[Request], bool]:
    return lambda it: (it.origin, it.method) == (origin, method) and it.about(text)


# Where a job may meet a mood: before anything is fetched, and on the way.
PLACES: dict[str, Callable[[Request], bool]] = {
    "the repository": at("hub", "GET", "/api/models/alice"),
    "its listing": at("hub", "GET", "/tree/"),
    "HEAD": at("hub", "HEAD", WEIGHTS),
    "a header": is_header,
    "the body": is_body,
}


# --- moods that pass ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_hub_in_trouble_is_asked_again(
    hub: LocalHub, rows: list[Row], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.2)
    fault = hub.faults.add(PLACES[place], faults.status(503), times=2)
    job = started(REPO)
    jobs.run(job.id)
    assert is_ready(services.sae_of(job.sae_id))
    assert fault.hits == 2
    assert never_goes_back(rows)


@pytest.mark.parametrize("place", PLACES)
def test_a_rate_limit_counts_down_in_the_row_and_goes_on(
    hub: LocalHub, rows: list[Row], place: str
) -> None:
    hub.faults.add(PLACES[place], faults.status(429, {"Retry-After": "2"}))
    job = started(REPO)
    jobs.run(job.id)
    assert is_ready(services.sae_of(job.sae_id))
    waited = [row["message"] for row in rows if "rate limited" in row["message"]]
    assert list(dict.fromkeys(waited)) == [
        "rate limited, goes on in 2 s", "rate limited, goes on in 1 s"
    ]  # fmt: skip
    assert rows[-1]["message"] != waited[-1]
    assert never_goes_back(rows)


def test_the_bar_never_goes_back_over_moods_pauses_and_lost_workers(
    hub: LocalHub, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.01)
    for action in (faults.cut(150_000), faults.reset(50_000), faults.expired_url(),
                   faults.corrupt(900_000), faults.status(503)):  # fmt: skip
        hub.faults.add(is_body, action)
    hub.faults.add(is_body, faults.slow(400_000), times=None)
    job = started(REPO)
    for leave in (moves.pause, lambda ids: [moves.requeue(Job.objects.get(id=ids[0]))]):
        worker = in_background(job)
        before = Job.objects.get(id=job.id).bytes_done
        wait_for(lambda b=before: Job.objects.get(id=job.id).bytes_done > b + 200_000)  # type: ignore[misc]
        leave([job.id])
        worker.join()
        moves.resume([job.id])
    hub.faults.clear()
    jobs.run(job.id)
    assert is_ready(services.sae_of(job.sae_id))
    assert never_goes_back(rows)
    assert {row["attempt"] for row in rows} == {1, 2, 3}


def the_time_comes(job: Job) -> None:
    """As if 15 minutes had passed: for the row, and for the limit that all workers keep to."""
    past = timezone.now() - timedelta(minutes=1)
    Job.objects.filter(id=job.id).update(wait_until=past, updated_at=past)
    for limit in (settings.DATA_DIR / "run" / "limits").iterdir():
        limit.unlink()


# --- moods that last ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_long_limit_makes_room_and_the_job_goes_on_by_itself(
    hub: LocalHub, enqueued: list[Job], place: str
) -> None:
    hub.faults.add(PLACES[place], faults.status(429, {"Retry-After": "900"}))
    job = started(REPO)
    jobs.take_turn()
    job.refresh_from_db()
    assert (job.state, job.waits_for, job.attempt) == (Job.State.QUEUED, "hub", 0)
    assert job.wait_until is not None
    assert 890 < (job.wait_until - timezone.now()).total_seconds() <= 900
    asked = len(hub.log.requests())
    enqueued.clear()
    jobs.take_turn()
    recovery.recover()
    assert (enqueued, len(hub.log.requests())) == ([], asked), "nobody is asked before its time"
    the_time_comes(job)
    recovery.recover()
    assert [it.id for it in enqueued] == [job.id]
    jobs.take_turn()
    assert is_ready(services.sae_of(job.sae_id))


LASTING: dict[str, faults.Action] = {
    "a rate limit": faults.status(429, {"Retry-After": "50"}),
    "silence": faults.stall(0, 60),
    "a trickle": faults.slow(1),
    "trouble": faults.status(503),
}


MET = [
    *(("the repository", mood) for mood in LASTING),
    ("HEAD", "a rate limit"), ("HEAD", "trouble"),
    ("a header", "silence"), ("a header", "a trickle"),
    *(("the body", mood) for mood in LASTING),
]  # fmt: skip


@pytest.mark.parametrize(("place", "mood"), MET)
def test_whatever_it_waits_for_a_cancel_ends_the_work_within_two_seconds(
    hub: LocalHub, place: str, mood: str
) -> None:
    job = left_while_waiting(hub, place, mood, moves.cancel)
    assert parts_of(job.sae_id) == {}


@pytest.mark.parametrize("mood", LASTING)
def test_a_pause_ends_it_as_quickly_and_keeps_the_part_files(hub: LocalHub, mood: str) -> None:
    job = left_while_waiting(hub, "the body", mood, moves.pause)
    assert parts_of(job.sae_id)


def left_while_waiting(
    hub: LocalHub, place: str, mood: str, leave: Callable[[list[str]], list[str]]
) -> Job:
    fault = hub.faults.add(PLACES[place], LASTING[mood], times=None)
    job = started(REPO)
    worker = in_background(job)
    wait_for(lambda: fault.hits)
    time.sleep(0.3)  # now it waits
    begun = time.monotonic()
    assert leave([job.id]) == [job.id]
    worker.join(timeout=10)
    assert time.monotonic() - begun < 2
    return job


@pytest.mark.parametrize("place", ["the repository", "its listing", "a header"])
def test_silence_while_it_looks_is_told_in_the_row_and_asked_again(
    hub: LocalHub, rows: list[Row], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "WORTH_A_WORD", 0.5)
    monkeypatch.setattr(http, "STALLED", 1.5)
    hub.faults.add(PLACES[place], faults.stall(0, 2.2), times=1)
    job = started(REPO)
    jobs.run(job.id)
    assert is_ready(services.sae_of(job.sae_id))
    assert "No answer for 1 s" in [row["message"] for row in rows]
    assert rows[-1]["message"] != "No answer for 1 s"


def test_a_header_that_trickles_is_given_up_and_asked_for_again(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "STALLED", 0.6)
    hub.faults.add(is_header, faults.slow(10), times=1)
    job = started(REPO)
    begun = time.monotonic()
    jobs.run(job.id)
    assert time.monotonic() - begun < 8
    assert is_ready(services.sae_of(job.sae_id))
