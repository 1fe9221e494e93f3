"""The socket of programs: what it says of the work on SAEs, and when."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.db import OperationalError
from pytest_django import Settings

from saes import accounts, api_tokens, events, jobs, moves, queueing, recorder, steering
from saes.consumers import live, watching
from saes.errors import BrokenFile
from saes.models import Job, Sae
from saes.progress import Stage
from saes.recorder import JobReporter, nudge
from tests.sockets import Program, cookie_of, headers, program, with_token

pytestmark = pytest.mark.django_db(transaction=True)
aside = database_sync_to_async


@pytest.fixture(autouse=True)
def place(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)


@pytest.fixture
def owner(transactional_db: None) -> User:
    return accounts.ensure_owner()


@pytest.fixture
async def listener(owner: User) -> AsyncIterator[Program]:
    _, token = await aside(api_tokens.create)(owner, "a test")
    async with program(with_token(token)) as opened:
        yield opened


def an_sae(**more: Any) -> Sae:
    return Sae.objects.create(name="an SAE", source=Sae.Source.HUGGINGFACE, **more)


@pytest.fixture
def sae(transactional_db: None) -> Sae:
    return an_sae()


@pytest.fixture
def job(sae: Sae) -> Job:
    return begun(sae)


def begun(sae: Sae, by: User | None = None) -> Job:
    queued = jobs.start(Job(kind=Job.Kind.DOWNLOAD, sae=sae, created_by=by))
    claimed = Job.objects.claim(queued.id, "elsewhere 1 1")
    assert claimed is not None
    return claimed


def of(sae: Sae, topic: str = "download") -> str:
    return f"sae/{sae.id}/{topic}"


# --- subscribing ----------------------------------------------------------------------------------


async def test_the_present_state_follows_the_acknowledgement(
    listener: Program, sae: Sae, job: Job
) -> None:
    await aside(JobReporter(job).say)(Stage.DOWNLOADING, "Fetching", file="a.npz")
    done = {"event": "subscribed", "id": 1, "channels": [of(sae)]}
    assert await listener.subscribe(of(sae)) == [done]
    told = await listener.hear()
    assert told["event"] == "sae:download" and told["channel"] == of(sae)
    data = told["data"]
    assert data["sae_id"] == sae.id and data["job_id"] == job.id
    assert (data["status"], data["stage"], data["progress"]) == ("downloading", "download", 0.0)
    assert data["message"] == "Downloading: 0.0%" and data["file"] == "a.npz"
    assert {"bytes_done", "bytes_total", "bytes_per_second", "seconds_left"} <= set(data)
    assert (data["waits_for"], data["wait_until"]) == (None, None)
    assert await listener.hears_nothing()


async def test_a_page_with_a_session_may_listen_as_well(owner: User, sae: Sae) -> None:
    cookie = await aside(cookie_of)(owner)
    async with program(headers(cookie=cookie, origin="http://localhost:8000")) as page:
        await page.subscribe(of(sae))
        assert (await page.hear())["data"]["status"] == "pending"


async def test_an_sae_that_no_job_brought_in_has_a_state_too(listener: Program) -> None:
    ready = await aside(an_sae)(status="ready")
    await listener.subscribe(of(ready))
    data = (await listener.hear())["data"]
    assert (data["status"], data["progress"], data["job_id"]) == ("ready", 100.0, None)
    assert data["message"] == "Complete and ready to use"


async def test_a_job_is_followed_to_its_end_and_its_progress_never_falls(
    listener: Program, sae: Sae, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    await listener.subscribe("sae/*")
    monkeypatch.setattr(recorder, "WRITE_EVERY", 0.0)
    reporter = JobReporter(job)
    for stage in (Stage.LOOKING, Stage.DOWNLOADING, Stage.CONVERTING, Stage.VERIFYING):
        await aside(reporter.say)(stage, "at work")
        for done in range(0, 101, 25):
            await aside(reporter.advance)(done, 100)
            await listener.hear_until(version=job.version)
    await aside(jobs._end)(job, Job.State.DONE, progress=100.0, message="")
    await listener.hear_until(status="ready")
    told = listener.told
    progress = [data["progress"] for data in told]
    assert progress == sorted(progress) and progress[-1] == 100.0
    assert len(set(progress)) > 5
    order = ["pending", "downloading", "converting", "ready"]
    places = [order.index(data["status"]) for data in told]
    assert places == sorted(places) and {1, 2, 3} <= set(places)
    assert [data["stage"] for data in told][-1] == "verify"


async def test_a_failure_says_why_and_what_to_do(listener: Program, sae: Sae, job: Job) -> None:
    await listener.subscribe(of(sae))
    await listener.hear()
    await aside(jobs.fail)(job, BrokenFile("a.npz ends early."))
    data = (await listener.hear())["data"]
    assert (data["status"], data["message"]) == ("error", "a.npz ends early.")
    assert data["error_code"] == "broken_file" and data["solution"] == BrokenFile.solution


async def test_a_retry_is_another_job_that_begins_at_nothing(
    listener: Program, sae: Sae, job: Job
) -> None:
    await aside(JobReporter(job).say)(Stage.DOWNLOADING, "")
    await aside(Job.objects.filter(id=job.id).update)(progress=42.0)
    await aside(moves.cancel)([job.id])
    await listener.subscribe(of(sae))
    before = (await listener.hear())["data"]
    again = await aside(steering.retry)(None, sae)
    after = (await listener.hear())["data"]
    assert (before["job_id"], before["progress"], before["status"]) == (job.id, 42.0, "error")
    assert (after["job_id"], after["progress"], after["status"]) == (again.id, 0.0, "pending")


async def test_the_same_state_is_told_once_however_many_nudges(
    listener: Program, sae: Sae, job: Job
) -> None:
    await listener.subscribe(of(sae), f"sae/{sae.id}/*", "sae/*")
    told = [await listener.hear(), await listener.hear()]
    assert {frame["event"] for frame in told} == {"sae:download", "sae:upload"}
    for _ in range(5):
        await aside(nudge)(sae.id)
    assert await listener.hears_nothing()


async def test_subscribing_again_tells_the_state_again(listener: Program, sae: Sae) -> None:
    for _ in range(2):
        await listener.subscribe(of(sae), of(sae))
        assert (await listener.hear())["event"] == "sae:download"
        assert await listener.hears_nothing()


async def test_what_was_unsubscribed_is_told_no_more(listener: Program, sae: Sae, job: Job) -> None:
    await listener.subscribe(of(sae), of(sae, "upload"))
    await listener.hear()
    await listener.hear()
    await listener.ask("unsubscribe", of(sae), "sae/never/download")
    channels = [of(sae), "sae/never/download"]
    assert await listener.hear() == {"event": "unsubscribed", "id": 1, "channels": channels}
    await aside(JobReporter(job).say)(Stage.DOWNLOADING, "Fetching")
    assert await listener.hears_nothing()


async def test_without_an_id_the_first_frame_is_the_present_state(
    listener: Program, sae: Sae, job: Job
) -> None:
    await listener.line.send_json_to({"action": "subscribe", "channels": [of(sae)]})
    assert (await listener.hear())["event"] == "sae:download"
    await listener.line.send_json_to({"action": "unsubscribe", "channels": [of(sae)]})
    assert await listener.hears_nothing()


async def test_only_what_is_followed_is_told(listener: Program, sae: Sae) -> None:
    other = await aside(an_sae)()
    await listener.subscribe(of(sae))
    await listener.hear()
    await aside(begun)(other)
    assert await listener.hears_nothing()


async def test_an_sae_that_is_not_there_is_an_error_and_the_others_are_subscribed(
    listener: Program, sae: Sae
) -> None:
    error, done = await listener.subscribe("sae/sae_nowhere/download", of(sae))
    assert error["event"] == "error" and error["code"] == "not_found"
    assert error["channel"] == "sae/sae_nowhere/download" and error["solution"]
    assert done["channels"] == [of(sae)]
    assert (await listener.hear())["channel"] == of(sae)


# --- wildcards ------------------------------------------------------------------------------------


async def test_all_saes_are_told_of_while_they_are_at_work(
    listener: Program, sae: Sae, job: Job
) -> None:
    resting = await aside(an_sae)(status="ready")
    await listener.subscribe("sae/*")
    assert (await listener.hear())["channel"] == of(sae)
    assert await listener.hears_nothing()
    await aside(steering.retry)(None, await aside(an_sae)(status="error"))
    assert (await listener.hear())["data"]["status"] == "pending"
    await aside(nudge)(resting.id)
    assert (await listener.hear())["channel"] == of(resting)


@pytest.mark.parametrize(
    ("pattern", "topics"),
    [("sae/{}/*", {"download", "upload"}), ("sae/*/download", {"download"}),
     ("sae/*/*", {"download"}), ("sae/*/upload", set()), ("sae/{}/upload", {"upload"})],
)  # fmt: skip
async def test_a_star_stands_for_every_sae_or_topic(
    listener: Program, sae: Sae, job: Job, pattern: str, topics: set[str]
) -> None:
    await listener.subscribe(pattern.format(sae.id))
    told = [await listener.hear() for _ in topics]
    assert {frame["channel"] for frame in told} == {of(sae, topic) for topic in topics}
    assert await listener.hears_nothing()


async def test_an_upload_that_never_was_is_said_to_be_none(listener: Program, sae: Sae) -> None:
    await listener.subscribe(of(sae, "upload"))
    told = await listener.hear()
    assert told["event"] == "sae:upload" and told["channel"] == of(sae, "upload")
    assert told["data"]["status"] is None and told["data"]["progress"] is None
    assert told["data"]["message"] == "Nothing was uploaded"


# --- deletion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["sae/{}/download", "sae/*/download"])
async def test_a_deleted_sae_is_told_once(
    listener: Program, sae: Sae, job: Job, pattern: str
) -> None:
    sae_id = sae.id
    await listener.subscribe(pattern.format(sae_id))
    await listener.hear()
    await aside(steering.delete_sae)(None, sae, keep_files=False)
    while (frame := await listener.hear())["event"] != "sae:deleted":
        assert frame["data"]["message"] == "Cancelled."
    assert frame["channel"] == f"sae/{sae_id}/download" and frame["data"] == {"sae_id": sae_id}
    for _ in range(2):
        await aside(nudge)(sae_id)
    assert await listener.hears_nothing()
    again = await listener.subscribe(f"sae/{sae_id}/download")
    assert again[0]["code"] == "not_found"


async def test_a_deleted_sae_leaves_room_for_another_subscription(
    listener: Program, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_SUBSCRIPTIONS", 1)
    await listener.subscribe(of(sae))
    await listener.hear()
    other = await aside(an_sae)()
    assert (await listener.subscribe(of(other)))[-1]["channels"] == []
    await aside(steering.delete_sae)(None, sae, keep_files=False)
    assert (await listener.hear())["event"] == "sae:deleted"
    assert (await listener.subscribe(of(other)))[-1]["channels"] == [of(other)]


async def test_an_sae_at_rest_that_is_deleted_is_told_to_those_who_follow_all(
    listener: Program, sae: Sae
) -> None:
    await aside(Sae.objects.update)(status="ready")
    await listener.subscribe("sae/*")
    sae_id = sae.id
    await aside(steering.delete_sae)(None, sae, keep_files=False)
    told = [await listener.hear(), await listener.hear()]
    assert [frame["event"] for frame in told] == ["sae:deleted"] * 2
    assert {frame["channel"] for frame in told} == {
        f"sae/{sae_id}/download", f"sae/{sae_id}/upload"
    }  # fmt: skip


# --- many events, lost ones, a database that is busy ----------------------------------------------


async def test_many_changes_at_once_are_few_events_and_the_last_is_the_newest(
    listener: Program, sae: Sae, job: Job
) -> None:
    await listener.subscribe(of(sae))
    reporter = JobReporter(job)
    began = asyncio.get_running_loop().time()
    for number in range(60):
        await aside(reporter.say)(Stage.DOWNLOADING, f"part {number}")
    took = asyncio.get_running_loop().time() - began
    await listener.hear_until(detail="part 59")
    assert len(listener.told) <= 10 * took + 3
    versions = [data["version"] for data in listener.told]
    assert versions == sorted(set(versions))


async def test_hundreds_of_channels_are_all_answered(listener: Program) -> None:
    def many() -> list[Sae]:
        return Sae.objects.bulk_create(Sae(name=f"{n}", source="local") for n in range(450))

    channels = [of(sae) for sae in await aside(many)()]
    await listener.subscribe(*channels)
    told = {(await listener.hear())["channel"] for _ in channels}
    assert told == set(channels)


@pytest.mark.parametrize("pattern", ["sae/*", "sae/{}/download"])
async def test_a_lost_nudge_is_made_good(
    listener: Program, sae: Sae, job: Job, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    def end_without_a_nudge() -> None:
        Job.objects.update(state="done", progress=100.0)
        Sae.objects.update(status="ready")

    await listener.subscribe(pattern.format(sae.id))
    await listener.hear()
    monkeypatch.setattr(live, "CHECK_EVERY", 0.2)
    await aside(end_without_a_nudge)()
    await listener.ask("unsubscribe", "sae/x/upload")  # the clock is looked at on each occasion
    await listener.hear()
    assert (await listener.hear())["data"]["status"] == "ready"


async def test_a_job_that_began_without_a_nudge_is_found_by_who_follows_all(
    listener: Program, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    await listener.subscribe("sae/*")
    monkeypatch.setattr(live, "CHECK_EVERY", 0.2)
    await aside(Job.objects.create)(kind=Job.Kind.DOWNLOAD, sae=sae)
    await listener.ask("unsubscribe", "sae/x/upload")
    await listener.hear()
    assert (await listener.hear())["data"]["status"] == "pending"


async def test_a_database_that_is_busy_is_asked_again(
    listener: Program, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([OperationalError("database is locked")])
    real = events.present

    def present(sae_ids: list[str]) -> Any:
        for error in answers:
            raise error
        return real(sae_ids)

    monkeypatch.setattr(events, "present", present)
    await listener.subscribe(of(sae))
    assert (await listener.hear())["event"] == "sae:download"


# --- frames that are not understood ---------------------------------------------------------------

NONSENSE = [
    "hello", "{", "[]", "null", "1", "NaN", '"subscribe"', "{}", '{"action": "subscribe"}',
    '{"action": "subscribe", "channels": []}', '{"action": "subscribe", "channels": "sae/*"}',
    '{"action": "subscribe", "channels": [1]}', '{"action": "subscribe", "channels": {"a": 1}}',
    '{"action": "subscribe", "channels": [null]}', '{"action": "destroy", "channels": ["sae/*"]}',
    '{"action": ["subscribe"], "channels": ["sae/*"]}', '{"action": null, "channels": ["sae/*"]}',
    '{"action": "subscribe", "channels": ["sae/*"], "user": "admin"}', "[" * 60_000,
    '{"a":' * 12_000, "9" * 60_000, '{"__proto__": {"action": "subscribe"}}',
    json.dumps({"action": "subscribe", "channels": ["sae/*"] * 1001}),
]  # fmt: skip


@pytest.mark.parametrize("frame", NONSENSE, ids=lambda frame: frame[:40])
async def test_nonsense_is_an_error_and_the_socket_goes_on(
    listener: Program, sae: Sae, frame: str
) -> None:
    await listener.line.send_to(text_data=frame)
    error = await listener.hear()
    assert error["event"] == "error" and error["channel"] is None
    assert error["code"] == "bad_request" and error["detail"] and error["solution"]
    assert (await listener.subscribe(of(sae)))[-1]["channels"] == [of(sae)]


@pytest.mark.parametrize(
    "name",
    ["", "sae", "sae/", "sae/x", "sae//download", "sae/x/", "sae/x/delete", "sae/x/download/y", "*",
     "sae/../download", "sae/%2e%2e/download", "job/x/download", "sae/x y/download", "SAE/*",
     "sae/\x00/download", "sae/x/download\n", "\ud800", "sae/**", "sae/" + "x" * 33 + "/download",
     "saes", "sae/’/download", "x" * 5000],
    ids=ascii,
)  # fmt: skip
async def test_a_name_of_no_channel_is_an_error_and_the_others_are_subscribed(
    listener: Program, sae: Sae, name: str
) -> None:
    error, done = await listener.subscribe(name, of(sae))
    assert error["code"] == "bad_request" and error["channel"] == name[:100]
    assert "sae/{id}/download" in error["solution"]
    assert done["channels"] == [of(sae)]


async def test_bytes_and_empty_frames_are_errors(listener: Program) -> None:
    await listener.line.send_to(bytes_data=b'{"action": "subscribe", "channels": ["sae/*"]}')
    assert (await listener.hear())["code"] == "bad_request"
    await listener.line.send_input({"type": "websocket.receive", "text": ""})
    assert (await listener.hear())["code"] == "bad_request"
