"""One SAE: its page, its card, editing it, and stating facts about it."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from saes import services
from saes.models import Job, Sae
from saes.storage import sha256_of
from tests.views.conftest import put_file

pytestmark = pytest.mark.django_db


def url(sae: Sae, verb: str = "") -> str:
    return f"/saes/{sae.id}/{verb}/" if verb else f"/saes/{sae.id}/"


BAD_IDS = ["sae_000000000000", "..", "%2e%2e", "a%00b", "sae_x;/", "a" * 5000, " "]


@pytest.mark.parametrize("sae_id", BAD_IDS)
@pytest.mark.parametrize("verb", ["", "card/", "delete/"])
def test_an_id_that_is_none_is_not_found(client: Client, sae_id: str, verb: str) -> None:
    assert client.get(f"/saes/{sae_id}/{verb}").status_code == 404


def test_the_page_shows_facts_files_certificate_and_jobs(client: Client, sae: Sae) -> None:
    Job.objects.create(kind=Job.Kind.DOWNLOAD, sae=sae, state=Job.State.DONE, worker="w")
    text = client.get(url(sae)).content.decode()
    for shown in (
        "residual of layer 3",
        "24,576",
        "768",
        "someone/saes",
        "a" * 10,
        "The conversion is exact",
    ):
        assert shown in text
    for file in sae.files.all():
        assert file.path in text and file.sha256 in text
    assert "From the width alone it may be" in text


def test_a_row_that_is_still_empty_has_a_page(client: Client, owner: User) -> None:
    empty = Sae.objects.create(name="new", source=Sae.Source.HUGGINGFACE)
    assert client.get(url(empty)).status_code == 200
    assert client.get(url(empty, "card")).status_code == 200
    assert client.get(url(empty, "delete")).status_code == 200


@pytest.mark.parametrize("status", Sae.Status.values)
@pytest.mark.parametrize("state", [None, *Job.State.values])
def test_every_state_has_a_card(client: Client, sae: Sae, status: str, state: str | None) -> None:
    Sae.objects.filter(id=sae.id).update(status=status, error_code="crashed", error_message="Oh.")
    if state:
        Job.objects.create(kind=Job.Kind.DOWNLOAD, sae=sae, state=state)
    for verb in ("", "card"):
        answer = client.get(url(sae, verb))
        assert answer.status_code == 200
        assert f'data-state="{status}"' in answer.content.decode()
    assert client.get("/").status_code == 200


def test_a_traceback_is_for_staff(owner: User, client: Client, sae: Sae) -> None:
    Job.objects.create(
        kind=Job.Kind.DOWNLOAD, sae=sae, state=Job.State.CRASHED, traceback="Traceback: secret"
    )
    assert "Traceback: secret" in client.get(url(sae)).content.decode()
    visitor = Client()
    visitor.force_login(User.objects.create_user("visitor"))
    assert "Traceback: secret" not in visitor.get(url(sae)).content.decode()


# --- editing --------------------------------------------------------------------------------------

EDITED = {"name": "new name", "description": "two\nlines", "notes": "note", "tags": "a, b,a, ,"}


def test_what_is_edited_is_stored(client: Client, sae: Sae) -> None:
    answer = client.post(url(sae, "edit"), EDITED)
    assert (answer.status_code, answer["Location"]) == (302, url(sae))
    sae.refresh_from_db()
    assert (sae.name, sae.notes, sae.tags) == ("new name", "note", ["a", "b"])
    assert sae.description.splitlines() == ["two", "lines"]
    assert (sae.status, sae.d_sae) == (Sae.Status.READY, 24576)


def test_htmx_is_sent_on_by_its_own_header(client: Client, sae: Sae) -> None:
    answer = client.post(url(sae, "edit"), EDITED, headers={"hx-request": "true"})
    assert answer["HX-Redirect"] == url(sae)


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"name": "x" * 201}, {"name": "a\0b"}, {"tags": "x" * 501}, {"notes": "\0"}],
)
def test_a_bad_edit_keeps_the_form_and_stores_nothing(
    client: Client, sae: Sae, wrong: dict[str, str]
) -> None:
    answer = client.post(url(sae, "edit"), {**EDITED, **wrong})
    assert answer.status_code == 422
    assert "field-error" in answer.content.decode()
    sae.refresh_from_db()
    assert (sae.name, sae.tags) == ("residual of layer 3", [])


def test_an_edit_changes_no_column_that_is_not_in_the_form(client: Client, sae: Sae) -> None:
    more = {"status": "error", "hf_repo_id": "evil/repo", "local_path": "/etc", "created_by": "2"}
    client.post(url(sae, "edit"), {**EDITED, **more})
    sae.refresh_from_db()
    assert (sae.status, sae.hf_repo_id) == ("ready", "someone/saes")
    assert sae.local_path == f"saes/{sae.id}"


# --- facts ----------------------------------------------------------------------------------------

MISSING = [
    {"name": "generation", "question": "Which?", "readings": {"1": "old", "2": "new"}},
    {"name": "k", "question": "How many?", "readings": {}},
]


@pytest.fixture
def asking(sae: Sae) -> Sae:
    """An SAE whose files are here and do not say enough."""
    sae.status, sae.error_code, sae.missing_facts = Sae.Status.ERROR, "needs_facts", MISSING
    sae.downloaded_at = sae.created_at
    sae.save()
    return sae


def test_an_sae_that_asks_shows_its_questions(client: Client, asking: Sae) -> None:
    text = client.get(url(asking)).content.decode()
    for shown in ("Which?", "old", "new", "How many?"):
        assert shown in text
    assert 'href="/saes/' in client.get(url(asking, "card")).content.decode()


def test_answers_are_typed_and_go_on_without_a_download(client: Client, asking: Sae) -> None:
    answer = client.post(url(asking, "facts"), {"generation": "1", "k": "32"})
    assert (answer.status_code, answer["Location"]) == (302, url(asking))
    asking.refresh_from_db()
    assert asking.given_facts == {"generation": 1, "k": 32}
    assert asking.active_job is not None
    assert asking.active_job.kind == Job.Kind.CONVERT


@pytest.mark.parametrize(
    "answers",
    [{}, {"generation": "1"}, {"generation": "3", "k": "5"}, {"k": "\0", "generation": "1"}],
)
def test_half_an_answer_asks_again(client: Client, asking: Sae, answers: dict[str, str]) -> None:
    assert client.post(url(asking, "facts"), answers).status_code == 422
    asking.refresh_from_db()
    assert (asking.given_facts, asking.active_job) == ({}, None)


@pytest.mark.parametrize("k", ["-1", "0", "many", "1e400", "[1]", "true", "NaN", "9" * 100, "1.5"])
def test_an_answer_that_no_file_could_hold_is_refused_at_once(
    client: Client, asking: Sae, k: str
) -> None:
    answer = client.post(url(asking, "facts"), {"generation": "1", "k": k})
    assert answer.status_code in (400, 422)
    asking.refresh_from_db()
    assert (asking.given_facts, asking.active_job) == ({}, None)


def test_facts_cannot_be_stated_during_a_job(client: Client, sae: Sae, job: Job) -> None:
    answer = client.post(url(sae, "facts"), {"model_name": "another-model"})
    assert answer.status_code == 409
    assert "worked on" in answer.content.decode()


def test_a_model_name_that_the_width_contradicts_is_a_dimension_mismatch(
    client: Client, sae: Sae
) -> None:
    answer = client.post(url(sae, "facts"), {"model_name": "google/gemma-2b"})
    assert answer.status_code == 422
    assert "Dimension mismatch" in answer.content.decode()
    sae.refresh_from_db()
    assert (sae.model_name, sae.given_facts) == ("", {})


def test_a_descriptive_fact_changes_row_and_metadata_and_no_weight(
    client: Client, sae: Sae
) -> None:
    facts = {"model_name": "gpt2", "hook_name": "blocks.4.hook_resid_post", "layer": "4"}
    assert client.post(url(sae, "facts"), facts).status_code == 302
    sae.refresh_from_db()
    assert (sae.model_name, sae.hook_name, sae.layer) == ("gpt2", "blocks.4.hook_resid_post", 4)
    assert sae.facts["layer"] == {"value": 4, "origin": "user"}
    assert (sae.status, sae.active_job) == (Sae.Status.READY, None)
    metadata = services.library().native(sae.id) / "metadata.json"
    assert '"gpt2"' in metadata.read_text()
    row = sae.files.get(path="native/metadata.json")
    assert (row.sha256, row.size) == (sha256_of(metadata), metadata.stat().st_size)


def test_empty_fields_state_nothing(client: Client, sae: Sae) -> None:
    before = sae.facts
    answer = client.post(url(sae, "facts"), {"model_name": "", "hook_name": "", "layer": ""})
    assert answer.status_code == 302
    sae.refresh_from_db()
    assert (sae.facts, sae.given_facts) == (before, {})


@pytest.mark.parametrize(
    "facts",
    [
        {"layer": "abc"},
        {"layer": "-1"},
        {"layer": "true"},
        {"layer": "9" * 30},
        {"hook_name": "a\u202eb"},
    ],
)
def test_a_bad_fact_is_refused_and_leaves_no_trace(
    client: Client, sae: Sae, facts: dict[str, Any]
) -> None:
    answer = client.post(url(sae, "facts"), facts)
    assert answer.status_code in (400, 422)
    sae.refresh_from_db()
    assert sae.given_facts == {}
    assert sae.facts == {"d_in": {"value": 768, "origin": "file"}}


def test_facts_of_an_sae_whose_files_are_gone_say_so(client: Client, sae: Sae) -> None:
    put_file(sae, "native/metadata.json", b"{}").unlink()
    answer = client.post(url(sae, "facts"), {"model_name": "gpt2"})
    assert answer.status_code == 409
    assert "Traceback" not in answer.content.decode()


def test_a_warning_about_the_sae_is_seen_at_once_and_is_no_row_of_a_table(
    client: Client, sae: Sae
) -> None:
    sae.facts = {"warning": {"value": "reconstructions lack a constant", "origin": "catalogue"}}
    sae.save()
    page = client.get(f"/saes/{sae.id}/").content.decode()
    assert "Beware: reconstructions lack a constant." in page
    assert page.count("reconstructions lack a constant") == 1
