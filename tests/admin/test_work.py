"""Jobs in the admin: shown as they are, steered through actions, never edited."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils.html import escape

from saes import roles, vault
from saes.models import Batch, Job, Sae
from tests.admin.conftest import JOBS, act, key, many, signed_in, staff

pytestmark = pytest.mark.django_db
TRACEBACK = 'File "saes/pipeline.py", line 1, in work'


@pytest.fixture
def crashed(sae: Sae, owner: User) -> Job:
    return Job.objects.create(
        kind=Job.Kind.CONVERT, sae=sae, created_by=owner, state=Job.State.CRASHED,
        traceback=TRACEBACK, error_code="crashed", error_message="It fell over.",
        lease="leaseleaselease0", token=vault.keep_for_one_job(owner, "hf_canary_of_one_job"),
    )  # fmt: skip


def page(job: Job) -> str:
    return f"{JOBS}{key(job)}/change/"


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_the_list_shows_state_progress_and_whose(client: Client, sae: Sae, crashed: Job) -> None:
    text = text_of(client, JOBS)
    for shown in (
        crashed.id, "Convert", '<span class="badge badge-bad">Crashed</span>', "owner",
        f'<a href="/admin/saes/sae/{key(sae)}/change/">residual of layer 3</a>',
    ):  # fmt: skip
        assert shown in text, shown
    for query in ("state__exact=crashed", "kind__exact=convert", "q=someone", f"q={crashed.id}",
                  f"sae__id__exact={sae.id}"):  # fmt: skip
        assert crashed.id in text_of(client, f"{JOBS}?{query}"), query
    assert crashed.id not in text_of(client, f"{JOBS}?state__exact=done")


def test_an_id_that_looks_escaped_has_a_page(client: Client, sae: Sae, owner: User) -> None:
    Sae.objects.create(id="sae_23abcdef0123", name="escaped", source="local")
    Job.objects.create(id="job_40abcdef0123", sae_id="sae_23abcdef0123", kind="convert")
    text = text_of(client, JOBS)
    for path in re.findall(r'href="(/admin/saes/[^"]+/change/)', text):
        assert client.get(path).status_code == 200, path
    assert "escaped" in text


def test_a_page_shows_everything_but_secrets_and_has_no_field(client: Client, crashed: Job) -> None:
    text = text_of(client, page(crashed))
    assert "It fell over." in text and escape(TRACEBACK) in text
    assert "leaseleaselease0" not in text and "hf_canary" not in text and "hf_…" not in text
    assert 'name="_save"' not in text and 'name="state"' not in text
    assert "deletelink" not in text


def test_no_post_changes_or_deletes_a_job(client: Client, crashed: Job) -> None:
    forged = {"state": "done", "created_by": "", "progress": "100", "_save": "Save"}
    assert client.post(page(crashed), forged).status_code == 403
    assert client.post(f"{JOBS}{key(crashed)}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"{JOBS}add/", forged).status_code == 403
    act(client, "delete_selected", crashed, post="yes")
    crashed.refresh_from_db()
    assert crashed.state == Job.State.CRASHED


@pytest.mark.parametrize(
    "query", ["lease__startswith=l", "traceback__contains=pipeline",
              "token__secret__startswith=g", "token__last_four=_job"],
)  # fmt: skip
def test_no_query_tells_secrets_letter_by_letter(client: Client, crashed: Job, query: str) -> None:
    assert client.get(f"{JOBS}?{query}").status_code == 400


def test_jobs_are_paused_resumed_cancelled_and_retried(
    client: Client, owner: User, started: list[Job]
) -> None:
    many(1, owner)
    job = Job.objects.get()
    for action, verb, state in (
        ("pause", "paused", Job.State.PAUSED),
        ("resume", "resumed", Job.State.QUEUED),
        ("cancel", "cancelled", Job.State.CANCELLED),
    ):
        assert f"1 {verb}." in act(client, action, job)
        job.refresh_from_db()
        assert job.state == state
    assert "0 cancelled, 1 refused" in act(client, "cancel", job)
    assert "1 retried." in act(client, "retry", job)
    assert Job.objects.exclude(id=job.id).get().state == Job.State.QUEUED
    noted = LogEntry.objects.order_by("id").values_list("object_id", "change_message")
    assert list(noted) == [
        (job.id, word) for word in ("Paused.", "Resumed.", "Cancelled.", "Retried.")
    ]


def test_what_ended_is_refused_and_the_others_go(client: Client, crashed: Job) -> None:
    many(1)
    (waiting,) = Job.objects.filter(state=Job.State.QUEUED)
    text = act(client, "pause", waiting, crashed)
    assert "1 paused, 1 refused: Convert of" in text and "is crashed." in text


def test_editors_see_and_steer_their_own_jobs_alone(crashed: Job) -> None:
    erin = staff("erin", roles.EDITOR)
    many(1, erin)
    own = Job.objects.get(created_by=erin)
    client = signed_in(erin)
    text = text_of(client, JOBS)
    assert own.id in text and crashed.id not in text
    assert client.get(page(crashed)).status_code == 302  # as if there were none
    act(client, "retry", crashed)
    assert crashed.sae.jobs.count() == 1
    assert "1 paused." in act(client, "pause", own)


def test_tracebacks_are_for_those_who_control_any_job(crashed: Job) -> None:
    erin = staff("erin", roles.EDITOR)
    Job.objects.update(created_by=erin)
    assert TRACEBACK.partition('"')[0] + "&quot;" not in text_of(signed_in(erin), page(crashed))
    ada = signed_in(staff("ada", roles.ADMIN))
    assert escape(TRACEBACK) in text_of(ada, page(crashed))


def test_viewers_see_no_action(sae: Sae) -> None:
    vera = staff("vera", roles.VIEWER)
    many(1, vera)
    client = signed_in(vera)
    text = text_of(client, JOBS)
    assert Job.objects.get().id in text and 'name="action"' not in text
    act(client, "cancel", Job.objects.get())
    assert Job.objects.get().state == Job.State.QUEUED


def test_a_batch_is_shown_with_its_jobs(client: Client, owner: User, started: list[Job]) -> None:
    many(3, owner)
    batch = Batch.objects.create(name="width 16k", created_by=owner)
    Job.objects.update(batch=batch)
    text = text_of(client, f"/admin/saes/batch/{key(batch)}/change/")
    assert "width 16k" in text and "3 queued" in text and 'name="_save"' not in text
    listed = f"{JOBS}?batch__id__exact={batch.id}"
    assert listed in text and "3 jobs" in text_of(client, listed)
    assert "width 16k" in text_of(client, page(Job.objects.all()[0]))
    assert "3 moved to the front." in act(client, "front", *Job.objects.all())


def test_batches_of_others_are_for_those_who_control_any_job(owner: User) -> None:
    many(1, owner)
    batch = Batch.objects.create(name="width 16k", created_by=owner)
    Job.objects.update(batch=batch)
    for role, seen in ((roles.EDITOR, False), (roles.ADMIN, True)):
        text = text_of(signed_in(staff(f"somebody {role}", role)), "/admin/saes/batch/")
        assert ("width 16k" in text) == seen
