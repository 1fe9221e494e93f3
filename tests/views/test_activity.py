"""The page Activity: what it shows to whom, in which order, and what its buttons do."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from saes import queueing, roles
from saes.models import Batch, Job, Sae, SaeFile
from tests.views.conftest import signed_in
from tests.views.people import somebody

pytestmark = pytest.mark.django_db
HTMX = {"hx-request": "true"}
NUMBERS = count(1)
STATES = [*Job.State.values]
MakeJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    queued: list[Job] = []
    monkeypatch.setattr(queueing, "enqueue", queued.extend)
    return queued


@pytest.fixture
def make(owner: User) -> MakeJob:
    """A job of an SAE of its own."""

    def made(state: str = "queued", name: str = "", user: User = owner, **more: Any) -> Job:
        name = name or f"number {next(NUMBERS)}"
        failed = state in ("failed", "crashed", "cancelled")
        sae = Sae.objects.create(
            name=name, source="huggingface", status="error" if failed else "pending"
        )
        if state in ("done", "failed", "crashed", "cancelled"):
            more.setdefault("ended_at", timezone.now())
        return Job.objects.create(
            **{"kind": "download", "sae": sae, "state": state, "created_by": user, **more}
        )

    return made


def text(client: Client, query: str = "", **more: Any) -> str:
    answer = client.get(f"/jobs/{query}", **more)
    assert answer.status_code == 200, answer.content
    return str(answer.content.decode())


def ids(page: str) -> list[str]:
    return re.findall(r'<li class="job live[^>]* id="(job_\w+)"', page)


def steer(client: Client, verb: str, *jobs: Job, query: str = "", **more: str) -> Any:
    data = {"job": [job.id for job in jobs], **more}
    return client.post(f"/jobs/steer/{verb}/{query}", data)


def state_of(job: Job) -> str:
    return str(Job.objects.get(id=job.id).state)


# --- what it shows --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Job.Kind.values)
def test_a_running_job_of_every_kind_is_shown(client: Client, make: MakeJob, kind: str) -> None:
    make("running", "my SAE", kind=kind)
    page = client.get("/jobs/")
    assert page.status_code == 200
    assert "my SAE" in page.content.decode()


def test_running_come_first_then_paused_then_those_that_wait_by_turn(
    client: Client, make: MakeJob
) -> None:
    now = timezone.now()
    old, new = (make("done", ended_at=now - timedelta(hours=h)) for h in (2, 1))
    last, first, front = (make("queued", turn=turn) for turn in (9, 8, -1))
    paused, running = make("paused"), make("running", started_at=now)
    expected = [running, paused, front, first, last, new, old]
    assert ids(text(client)) == [job.id for job in expected]


def test_tabs_and_filters_are_kept_in_the_address(client: Client, make: MakeJob) -> None:
    batch = Batch.objects.create(name="all of layer 3")
    made = {state: make(state) for state in STATES}
    check = make("done", kind="verify", batch=batch)
    shown = {
        "?state=active": [made[it] for it in ("running", "paused", "queued")],
        "?state=failed": [made["crashed"], made["failed"]],
        "?state=nonsense": [*made.values(), check],
        "?kind=verify": [check],
        f"?batch={batch.id}": [check],
        "?batch=%00": [*made.values(), check],
    }
    for query, jobs in shown.items():
        page = text(client, query)
        assert set(ids(page)) == {job.id for job in jobs}, query
    page = text(client, "?state=failed&kind=download")
    assert "/jobs/steer/retry/?state=failed&amp;kind=download" in page
    assert 'href="?state=active&amp;kind=download"' in page


def test_a_row_says_everything_about_a_running_job(client: Client, make: MakeJob) -> None:
    batch = Batch.objects.create(name="all of layer 3")
    make(
        "running", name="the one", stage="downloading", message="rate limited, goes on in 40 s",
        file_name="a/params.npz", file_index=2, file_count=3, bytes_done=1_200_000_000,
        bytes_total=2_420_000_000, bytes_per_second=38_000_000.0, progress=40.4, attempt=2,
        started_at=timezone.now(), batch=batch,
    )  # fmt: skip
    page = text(client)
    for words in (
        "the one", "Downloading", "2 of 4", "40 %", "1.20 of 2.42 GB · 38.0 MB/s · 32 s left",
        "File 2 of 3", "a/params.npz", "attempt 2", "owner", "all of layer 3",
        "rate limited, goes on in 40 s", 'value="40.4"',
    ):  # fmt: skip
        assert words in page, words


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "Waiting for a worker"),
        ({"waits_for": "hub", "message": "Rate limited by the Hub", "wait": 40},
         "Rate limited by the Hub, goes on in (39|40) s"),
        ({"waits_for": "disk", "message": "Waits for room on the disk: this needs 9", "wait": 20},
         "Waits for room on the disk: this needs 9, looks again in (19|20) s"),
        ({"waits_for": "hub", "message": "Rate limited by the Hub", "wait": -1},
         "Waiting for a worker"),
    ],
)  # fmt: skip
def test_a_queued_job_says_what_it_waits_for(
    client: Client, make: MakeJob, more: dict[str, Any], words: str
) -> None:
    if seconds := more.pop("wait", 0):
        more["wait_until"] = timezone.now() + timedelta(seconds=seconds)
    job = make(**more)
    for page in (text(client), text(client, f"{job.id}/row/"), card(client, job)):
        assert re.search(words, page)
        assert (words == "Waiting for a worker") == (
            "Rate limited" not in page and "room" not in page
        )


def card(client: Client, job: Job) -> str:
    return str(client.get(f"/saes/{job.sae_id}/card/").content.decode())


def test_a_failed_job_says_why_and_what_to_do(client: Client, make: MakeJob) -> None:
    make("failed", error_code="bad_token", error_message="No <b>.", error_solution="Another one.")
    page = text(client)
    for words in (
        "No &lt;b&gt;.",
        "Another one.",
        "<code>bad_token</code>",
        "Add a token",
        "Retry",
    ):
        assert words in page, words
    make("failed", error_code="needs_facts")
    assert "#needs-facts" in text(client)


def test_what_was_cleared_away_is_not_shown_and_an_empty_page_says_what_to_do(
    client: Client, make: MakeJob
) -> None:
    assert "Nothing is going on" in text(client)
    make("done", listed=False)
    assert "Nothing is going on" in text(client)
    make("done")
    assert "Nothing is running or waiting" in text(client, "?state=active")
    assert "No job matches" in text(client, "?kind=verify")


def test_the_navigation_counts_what_is_on_its_way(client: Client, make: MakeJob) -> None:
    count = re.compile(r'id="nav-count"[^>]*>([^<]*)<')
    assert count.findall(text(client)) == [""]
    for state in STATES:
        make(state)
    assert count.findall(client.get("/").content.decode()) == ["3"]
    part = text(client, headers=HTMX)
    assert count.findall(part) == ["3"] and 'hx-swap-oob="true"' in part and "<html" not in part


def test_only_what_may_change_at_any_moment_is_followed(client: Client, make: MakeJob) -> None:
    running = make("running", started_at=timezone.now())
    waiting = [make("queued", turn=n) for n in range(20)]
    make("done")
    (address,) = re.findall(r'ws-connect="([^"]+)"', text(client))
    assert re.findall(r"job=(\w+)", address) == [it.id for it in (running, *waiting[:8])]


def test_editors_see_their_own_jobs_and_viewers_have_no_buttons(make: MakeJob, db: None) -> None:
    erin, vera = somebody("erin", roles.EDITOR), somebody("vera", roles.VIEWER)
    own, hers = make(user=erin), make(user=vera)
    make()
    assert ids(text(signed_in(erin))) == [own.id]
    page = text(signed_in(vera))
    assert ids(page) == [hers.id] and "/jobs/steer/" not in page
    assert signed_in(vera).get(f"/jobs/{own.id}/row/").status_code == 404


@pytest.mark.parametrize("role", [roles.EDITOR, roles.ADMIN])
def test_thousands_of_jobs_take_as_many_questions_as_a_few(role: str, db: None) -> None:
    user = somebody("erin", role)
    client = signed_in(user)

    def questions() -> int:
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert len(ids(text(client))) == 50
        return len(asked)

    many(user, 60)
    few = questions()
    many(user, 3000)
    assert questions() == few
    assert "Page 1 of 62" in text(client)
    assert len(ids(text(client, "?page=62"))) == 10


def many(owner: User, number: int, **more: Any) -> None:
    saes = Sae.objects.bulk_create(Sae(name=f"{n}", source="local") for n in range(number))
    Job.objects.bulk_create(
        Job(kind="download", sae=sae, created_by=owner, **more) for sae in saes
    )  # fmt: skip


# --- steering -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("pause", "queued", "paused"), ("pause", "running", "paused"),
        ("resume", "paused", "queued"), ("cancel", "paused", "cancelled"),
    ],
)  # fmt: skip
def test_a_button_changes_its_job_and_leads_back(
    client: Client, make: MakeJob, verb: str, before: str, after: str
) -> None:
    job, other = make(before), make(before)
    for _ in range(2):  # asked twice it is done once
        answer = steer(client, verb, job, query="?state=active")
        assert (answer.status_code, answer["Location"]) == (302, "/jobs/?state=active")
        assert (state_of(job), state_of(other)) == (after, before)


def test_htmx_is_told_what_was_done_and_asks_for_the_page_itself(
    client: Client, make: MakeJob
) -> None:
    data = {"job": make().id}
    answer = client.post("/jobs/steer/pause/", data, headers=HTMX)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Paused 1 job." in answer["HX-Trigger"]
    again = client.post("/jobs/steer/pause/", data, headers=HTMX)
    assert "Nothing here runs or waits." in again["HX-Trigger"]


def test_a_job_moves_to_the_front(client: Client, make: MakeJob) -> None:
    first, last = make(), make()
    steer(client, "front", last)
    assert ids(text(client)) == [last.id, first.id]


def test_a_retried_job_takes_the_place_of_the_one_that_failed(
    client: Client, make: MakeJob, started: list[Job]
) -> None:
    job = make("failed")
    steer(client, "retry", job)
    (new,) = ids(text(client))
    assert new != job.id and state_of(Job.objects.get(id=new)) == "queued"
    steer(client, "retry", job)
    assert Job.objects.count() == 2


def test_a_check_that_failed_is_asked_for_again(client: Client, sae: Sae, owner: User) -> None:
    Job.objects.create(kind="verify", sae=sae, created_by=owner, state="failed")
    steer(client, "retry", query="", all="1")
    assert [job.state for job in sae.jobs.order_by("created_at")] == ["failed", "queued"]
    assert len(ids(text(client))) == 1


def test_all_means_what_the_filters_show_and_what_is_ones_own(
    client: Client, make: MakeJob
) -> None:
    erin = somebody("erin", roles.EDITOR)
    theirs, check, own = make(), make(kind="verify", user=erin), make(user=erin)
    steer(signed_in(erin), "pause", query="?kind=verify", all="1")
    assert [state_of(job) for job in (theirs, check, own)] == ["queued", "paused", "queued"]
    steer(signed_in(erin), "cancel", all="1")
    assert [state_of(job) for job in (theirs, check, own)] == ["queued", "cancelled", "cancelled"]


def test_a_form_without_a_job_changes_nothing(client: Client, make: MakeJob) -> None:
    job = make()
    assert steer(client, "cancel").status_code == 302
    assert steer(client, "explode", job).status_code == 404
    assert state_of(job) == "queued"


def test_of_all_only_what_failed_is_retried(client: Client, make: MakeJob) -> None:
    made = {state: make(state) for state in ("failed", "crashed", "cancelled", "done")}
    make("failed", listed=False)
    steer(client, "retry", all="1")
    again = Job.objects.filter(state="queued").values_list("sae_id", flat=True)
    assert set(again) == {made["failed"].sae_id, made["crashed"].sae_id}


def test_what_has_ended_is_cleared_away(client: Client, make: MakeJob) -> None:
    for state in STATES:
        make(state)
    steer(client, "clear", all="1")
    assert Job.objects.filter(listed=True).count() == 3
    assert "Clear finished" not in text(client)


def test_cancelling_all_asks_first_and_names_how_many(client: Client, make: MakeJob) -> None:
    for state in STATES:
        make(state)
    page, dialog = (text(client, "cancel-all/", headers=it) for it in ({}, HTMX))
    assert "<html" in page and "<dialog" in dialog and "<html" not in dialog
    for it in (page, dialog):
        assert "3 jobs" in it and "1 of them at work" in it and "of other people" not in it
    assert Job.objects.active().count() == 3
    steer(client, "cancel", all="1")
    assert "Nothing is left to cancel" in text(client, "cancel-all/")
    make(user=somebody("erin", roles.EDITOR))
    assert "<b>1</b> is of other people" in text(client, "cancel-all/")


# --- batches --------------------------------------------------------------------------------------


@pytest.fixture
def batch(owner: User, make: MakeJob) -> Iterator[Batch]:
    made = Batch.objects.create(
        name="width 16k", hf_repo_id="google/gemma-scope-2b-pt-res", created_by=owner
    )
    for state in ("done", "failed", "queued", "cancelled"):
        make(state, batch=made)
    loads = {"stage": "downloading", "bytes_done": 300, "bytes_total": 1000, "progress": 40}
    make("running", batch=made, **loads)
    make("queued")
    yield made


def test_a_batch_is_shown_as_a_whole(client: Client, batch: Batch) -> None:
    ready = Job.objects.get(batch=batch, state="done").sae
    SaeFile.objects.create(sae=ready, kind="source", path="source/a", size=2000)
    page = text(client, f"?batch={batch.id}")
    assert len(ids(page)) == 5
    told = dict(re.findall(r"<dt>(\w+)</dt><dd>([^<]+)", page))
    assert told.pop("Fetched").startswith("2 of 3 kB")
    assert told == dict.fromkeys(("Ready", "Running", "Waiting", "Failed", "Cancelled"), "1")
    assert "and 1 of unknown size" in page and "28 % of the way" in page


def test_a_retry_counts_once_in_its_batch_and_clearing_leaves_the_numbers(
    client: Client, batch: Batch, started: list[Job]
) -> None:
    steer(client, "retry", query=f"?batch={batch.id}", all="1")
    steer(client, "clear", all="1")
    told = dict(re.findall(r"<dt>(\w+)</dt><dd>([^<]+)", text(client, f"?batch={batch.id}")))
    assert (told["Ready"], told["Waiting"], "Failed" in told) == ("1", "2", False)


def test_the_buttons_of_a_batch_are_for_it_alone(client: Client, batch: Batch) -> None:
    steer(client, "pause", query=f"?batch={batch.id}", all="1")
    assert Job.objects.filter(state="paused").count() == 2
    assert Job.objects.get(batch=None).state == "queued"
    asked = text(client, f"cancel-all/?batch={batch.id}")
    assert "2 jobs" in asked and "width 16k" in asked


def test_the_batch_of_somebody_else_is_not_there(batch: Batch) -> None:
    erin = signed_in(somebody("erin", roles.EDITOR))
    for path in (f"/jobs/?batch={batch.id}", f"/jobs/cancel-all/?batch={batch.id}"):
        assert erin.get(path).status_code == 404
    erin.post(f"/jobs/steer/cancel/?batch={batch.id}", {"all": "1"})
    assert Job.objects.active().count() == 3


# --- the card of an SAE ---------------------------------------------------------------------------


def test_a_card_pauses_and_resumes(client: Client, make: MakeJob) -> None:
    job = make(bytes_done=100, bytes_total=200, progress=30)
    for verb, state, offers in (("pause", "paused", "resume"), ("resume", "queued", "pause")):
        answer = client.post(f"/saes/{job.sae_id}/{verb}/", headers=HTMX)
        assert f"/saes/{job.sae_id}/{offers}/" in answer.content.decode()
        assert state_of(job) == state
        assert client.post(f"/saes/{job.sae_id}/{verb}/").status_code == 302
