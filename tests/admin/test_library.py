"""SAEs in the admin: their list, their form, and what can be done to them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape
from pytest_django import Settings

from saes import roles
from saes.admin.filters import periods
from saes.models import Job, Sae
from tests.admin.conftest import SAES, act, key, many, signed_in, staff

pytestmark = pytest.mark.django_db
ATTACK = '"><img src=x onerror=alert(1)>'


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return str(answer.content.decode())


def change_page(sae: Sae) -> str:
    return f"{SAES}{key(sae)}/change/"


def queries_of(client: Client, path: str) -> int:
    cache.clear()
    with CaptureQueriesContext(
        connection,
    ) as seen:
        assert client.get(path).status_code == 200
    return len(seen)


def test_the_list_shows_what_tells_saes_apart(client: Client, sae: Sae) -> None:
    Sae.objects.filter(id=sae.id).update(
        model_name="gpt2", hook_name="blocks.3.hook_resid_post", file_size_bytes=2_424_000_000
    )
    many(1)
    text = text_of(client, SAES)
    for shown in (
        "residual of layer 3", "Hugging Face", "gpt2", "blocks.3.hook_resid_post", "24,576",
        '<span class="badge badge-good">Ready</span>', '<progress max="100" value="40">', "2.42 GB",
    ):  # fmt: skip
        assert shown in text, shown
    assert 'class="date-hierarchy' in text or 'class="toplinks"' in text
    assert "/admin/saes/sae/add/" not in text


@pytest.mark.parametrize("path", [SAES, "/admin/saes/job/"])
def test_fifty_rows_ask_no_more_queries_than_five(client: Client, owner: User, path: str) -> None:
    many(5, owner)
    queries_of(client, path)  # the first one also looks up content types
    few = queries_of(client, path)
    many(45, owner)
    assert queries_of(client, path) == few <= 12


def test_filters_and_search_find_rows(client: Client, sae: Sae) -> None:
    many(2)
    Sae.objects.filter(id=sae.id).update(model_name="pythia")
    for query in ("status__exact=ready", "model_name=pythia", "q=layer+3", "q=someone/saes",
                  "source__exact=huggingface&format=saelens", f"q={sae.id}"):  # fmt: skip
        text = text_of(client, f"{SAES}?{query}")
        assert "residual of layer 3" in text, query
        assert "number 1" not in text, query
    assert "0 SAEs" in text_of(client, f"{SAES}?model_name=unheard-of")


def test_the_filter_of_models_names_the_commonest_and_the_chosen(
    client: Client, owner: User
) -> None:
    cache.clear()
    rows = [Sae(name="x", source="local", model_name=f"model-{n % 40:02}") for n in range(78)]
    Sae.objects.bulk_create(rows)
    text = text_of(client, f"{SAES}?model_name=model-39")
    assert "model_name=model-00" in text
    assert "model_name=model-35" not in text
    assert "model_name=model-39" in text


@pytest.mark.parametrize(
    "query", ["o=99", "p=-1", "p=10000000", "status__exact=%00", "q=%00", "q=%25_%5C", "nosuch=1",
              "created_at__year=9999999", "layer__gte=x", "e=1", "all=", "_to_field=name",
              "q=" + "x" * 5000, "o=-1.2.x", "created_at__year=x"],
)  # fmt: skip
def test_odd_queries_are_no_server_error(client: Client, sae: Sae, query: str) -> None:
    assert client.get(f"{SAES}?{query}").status_code in (200, 302, 400)


@pytest.mark.parametrize(
    "query", ["created_by__password__startswith=p", "jobs__lease__startswith=a",
              "jobs__token__secret__startswith=g", "jobs__traceback__contains=x"],
)  # fmt: skip
def test_no_query_asks_about_other_tables(client: Client, sae: Sae, query: str) -> None:
    assert client.get(f"{SAES}?{query}").status_code == 400


def test_an_unknown_row_leads_back(client: Client, sae: Sae) -> None:
    for name in ("nothing", "%00", "..%2F..%2Fetc"):
        assert client.get(f"{SAES}{name}/change/").status_code == 302, name
        assert client.get(f"{SAES}{name}/delete/").status_code == 404, name


def test_the_form_shows_facts_and_links(client: Client, sae: Sae, settings: Settings) -> None:
    settings.HF_ENDPOINT = "https://hub.example"
    text = text_of(client, change_page(sae))
    for shown in (
        f'href="/saes/{sae.id}/"',
        f'href="/admin/saes/job/?sae__id__exact={sae.id}"',
        f'href="https://hub.example/someone/saes/tree/{"a" * 40}"',
        "source/cfg.json",
        escape('"d_in": {"value": 768, "origin": "file"}'),
        escape('"passed": true'),
    ):
        assert shown in text, shown


def test_people_may_change_what_people_write(client: Client, sae: Sae) -> None:
    form = {"name": "renamed", "description": "d", "notes": "n", "tags": "one, two, one"}
    assert client.post(change_page(sae), {**form, **no_files()}).status_code == 302
    sae.refresh_from_db()
    assert (sae.name, sae.description, sae.notes) == ("renamed", "d", "n")
    assert sae.tags == ["one", "two"]
    assert "one, two" in text_of(client, change_page(sae))
    entry = LogEntry.objects.get()
    assert entry.object_id == sae.id and "Name" in entry.get_change_message()


def test_no_post_changes_what_jobs_own(client: Client, sae: Sae) -> None:
    mine = {"name": "renamed", "description": "", "notes": "", "tags": ""}
    before = {it.attname: getattr(sae, it.attname) for it in Sae._meta.fields}
    forged = {name: "7" for name in before if name not in mine}
    file = sae.files.get(path="source/cfg.json")
    forged |= {
        "files-TOTAL_FORMS": "1", "files-INITIAL_FORMS": "1", "files-0-id": str(file.pk),
        "files-0-sae": sae.id, "files-0-path": "../../secret.key", "files-0-DELETE": "on",
    }  # fmt: skip
    assert client.post(change_page(sae), {**forged, **mine}).status_code == 302
    sae.refresh_from_db()
    after = {it.attname: getattr(sae, it.attname) for it in Sae._meta.fields}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"name", "updated_at"}
    assert sae.files.filter(path="source/cfg.json").exists()


def test_a_job_that_writes_meanwhile_is_not_overwritten(client: Client, sae: Sae) -> None:
    """The form writes the columns that were changed, and no others."""
    page = change_page(sae)
    form = {"name": "renamed", "description": "", "notes": "", "tags": "", **no_files()}
    with CaptureQueriesContext(connection) as seen:
        assert client.post(page, form).status_code == 302
    (update,) = [it["sql"] for it in seen if it["sql"].startswith('UPDATE "saes_sae"')]
    assert '"name"' in update and '"status"' not in update and '"facts"' not in update


def no_files() -> dict[str, str]:
    return {"files-TOTAL_FORMS": "0", "files-INITIAL_FORMS": "0"}


def test_no_name_is_brought_to_life(client: Client, sae: Sae) -> None:
    Sae.objects.filter(id=sae.id).update(
        name=ATTACK, hf_repo_id=ATTACK, model_name=ATTACK, hook_name=ATTACK, format=ATTACK,
        architecture=ATTACK, facts={ATTACK: {"value": ATTACK, "origin": ATTACK}},
        certificate={"passed": ATTACK}, tensors=[{"name": ATTACK}], given_facts={ATTACK: ATTACK},
        error_message=ATTACK, missing_facts=[{"name": ATTACK}], tags=[ATTACK],
    )  # fmt: skip
    sae.files.filter(path="source/cfg.json").update(path=ATTACK)
    for path in (
        SAES,
        change_page(sae),
        f"{SAES}{key(sae)}/delete/",
        f"{SAES}?model_name={quote(ATTACK)}",
    ):
        assert "<img src=x" not in text_of(client, path), path
    assert "<img src=x" not in act(client, "retry", sae)
    assert "<img src=x" not in text_of(client, f"{SAES}{key(sae)}/history/")


# --- what can be done -----------------------------------------------------------------------------


def said(text: str) -> str:
    """The message on the page that follows."""
    return text.partition('class="messagelist"')[2].partition("</ul>")[0]


@pytest.fixture
def failed(sae: Sae, owner: User) -> list[Sae]:
    rows = many(2)
    Job.objects.all().update(state=Job.State.FAILED)
    Sae.objects.filter(name__startswith="number").update(status=Sae.Status.ERROR)
    return rows


def test_retrying_tells_how_many_and_who_was_refused(
    client: Client, sae: Sae, failed: list[Sae]
) -> None:
    text = said(act(client, "retry", sae, *failed))
    assert "2 retried, 1 refused: residual of layer 3: This SAE is ready" in text
    assert Job.objects.filter(state=Job.State.QUEUED).count() == 2
    assert set(LogEntry.objects.values_list("object_id", "change_message")) == {
        (it.id, "Retried.") for it in failed
    }


def test_a_long_list_of_refusals_is_cut_short(client: Client, owner: User) -> None:
    saes = many(9, owner)
    Sae.objects.update(status=Sae.Status.READY)
    text = said(act(client, "retry", *saes))
    assert "0 retried, 9 refused" in text and "And 4 more." in text


def test_cancelling_stops_jobs(client: Client, sae: Sae) -> None:
    (busy,) = many(1)
    assert "1 cancelled, 1 refused: residual" in said(act(client, "cancel", busy, sae))
    assert Job.objects.get(sae=busy).state == Job.State.CANCELLED


@pytest.mark.parametrize(
    ("action", "kind"), [("verify", Job.Kind.VERIFY), ("convert", Job.Kind.CONVERT)]
)
def test_work_on_a_ready_sae_is_queued(client: Client, sae: Sae, action: str, kind: str) -> None:
    Sae.objects.filter(id=sae.id).update(downloaded_at=sae.created_at)
    (busy,) = many(1)
    assert "1 queued for" in (text := said(act(client, action, sae, busy)))
    assert "1 refused: number 0" in text
    job = sae.jobs.get()
    assert (job.kind, job.created_by) == (kind, sae.created_by)
    assert "1 refused: residual of layer 3: Another job" in said(act(client, action, sae))


def test_metadata_are_read_again_from_the_files(
    client: Client, sae: Sae, put_sample: Callable[[Sae, str], None]
) -> None:
    put_sample(sae, "saelens_v6_standard")
    Sae.objects.filter(id=sae.id).update(facts={}, architecture="", hf_filepath=".")
    assert "1 read again." in said(act(client, "reread", sae))
    sae.refresh_from_db()
    assert sae.architecture == "standard" and sae.facts["architecture"]["value"] == "standard"


def test_metadata_of_files_that_are_gone_stay(client: Client, sae: Sae) -> None:
    facts = sae.facts
    assert "0 read again, 1 refused" in said(act(client, "reread", sae))
    sae.refresh_from_db()
    assert sae.facts == facts


@pytest.mark.parametrize("action", ["retry", "cancel", "verify", "reread", "convert"])
def test_a_viewer_can_export_and_nothing_else(sae: Sae, action: str) -> None:
    client = signed_in(staff("vera", roles.VIEWER))
    text = text_of(client, SAES)
    assert 'value="export_csv"' in text and f'value="{action}"' not in text
    act(client, action, sae)
    assert not Job.objects.exists() and not LogEntry.objects.exists()


@pytest.mark.parametrize("kind", ["year", "month", "day"])
def test_dates_of_the_hierarchy_are_those_that_django_computes(owner: User, kind: Any) -> None:
    saes = many(8)
    moments = ("2024-12-31T23:59:59.9", "2025-01-01", "2025-01-31T12:00", "2025-02-01",
               "2025-02-28", "2025-12-01", "2025-12-01T05:00", "2027-03-09")  # fmt: skip
    for sae, moment in zip(saes, moments, strict=True):
        made = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        Sae.objects.filter(id=sae.id).update(created_at=made)
    rows = Sae.objects.all()
    assert periods(rows, "created_at", kind) == list(rows.datetimes("created_at", kind))
    some = rows.filter(created_at__year=2025)
    assert periods(some, "created_at", kind) == list(some.datetimes("created_at", kind))


def test_the_hierarchy_leads_from_years_to_days(client: Client, owner: User) -> None:
    old, _ = many(2)
    made = datetime(2020, 5, 17, 12, tzinfo=UTC)
    Sae.objects.filter(id=old.id).update(created_at=made)
    assert "?created_at__year=2020" in text_of(client, SAES)
    year = text_of(client, f"{SAES}?created_at__year=2020")
    assert "created_at__month=5" in year and "number 1" not in year
    month = text_of(client, f"{SAES}?created_at__year=2020&created_at__month=5")
    assert "created_at__day=17" in month
    day = f"{SAES}?created_at__year=2020&created_at__month=5&created_at__day="
    assert "number 0" in text_of(client, f"{day}17")
    assert "number 0" not in text_of(client, f"{day}18")
