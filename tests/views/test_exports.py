"""The panel of an SAE's files and formats: what it offers, to whom, and while a job works."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from saes import jobs, queueing, roles, services
from saes.formats.architectures import NOT_PLAIN
from saes.models import Job, Sae
from tests.api.conftest import person
from tests.views.conftest import put_file, signed_in

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)


@pytest.fixture
def standard(sae: Sae) -> Sae:
    """One that other formats can hold."""
    sae.architecture = "standard"
    sae.facts = {"architecture": {"value": "standard", "origin": "file"}}
    sae.save()
    return sae


@pytest.fixture
def viewer(db: None) -> Client:
    return signed_in(person("vera", roles.VIEWER))


def panel(client: Client, sae: Sae) -> str:
    text = client.get(f"/saes/{sae.id}/").content.decode()
    found = re.search(r'<section class="card panel polls".*?</section>', text, re.DOTALL)
    assert found
    return found[0]


def row(client: Client, sae: Sae, label: str) -> str:
    found = re.search(rf'<tr>\s*<td class="cell-name">{label}.*?</tr>', panel(client, sae), re.S)
    assert found, label
    return found[0]


def prepare(client: Client, sae: Sae, format: str = "saelens", **headers: str) -> str:
    answer = client.post(f"/saes/{sae.id}/prepare/", {"format": format}, headers=headers)
    return f"{answer.status_code} {answer.content.decode()}"


def newest(sae: Sae) -> Job:
    job = sae.jobs.first()
    assert job
    return job


def test_what_is_there_is_linked_for_everyone(standard: Sae, viewer: Client) -> None:
    there = row(viewer, standard, "Original files")
    assert "Ready to download" in there
    address = f"/api/v1/saes/{standard.id}/download?format=original&amp;file=cfg.json"
    assert f'href="{address}"' in there
    assert viewer.get(address.replace("&amp;", "&")).status_code == 200
    assert "format=mistudio" in row(viewer, standard, "miStudio")


def test_several_files_come_as_a_zip_or_one_by_one(standard: Sae, client: Client) -> None:
    put_file(standard, "source/a b&c.json", b"{}")
    there = row(client, standard, "Original files")
    assert 'download?format=original"' in there
    assert "file=a%20b%26c.json" in there


def test_editors_may_prepare_a_format_and_viewers_may_not(
    standard: Sae, client: Client, viewer: Client
) -> None:
    assert "Prepare" in row(client, standard, "SAELens")
    theirs = row(viewer, standard, "SAELens")
    assert "Not prepared yet" in theirs
    assert "<button" not in theirs
    assert prepare(viewer, standard).startswith("403")
    assert not standard.jobs.exists()


def test_preparing_shows_the_job_live(standard: Sae, client: Client) -> None:
    text = prepare(client, standard, **HTMX)
    assert text.startswith("200")
    assert 'hx-trigger="every 1s"' in text
    assert "Queued" in text
    job = newest(standard)
    assert (job.kind, job.target) == (Job.Kind.EXPORT, "saelens")
    Job.objects.filter(id=job.id).update(
        state=Job.State.RUNNING, stage="verifying", progress=62.6, bytes_done=1, bytes_total=2
    )
    there = row(client, standard, "SAELens")
    assert "Verifying, 63 %" in there
    assert 'value="62.6"' in there
    page = client.get(f"/saes/{standard.id}/").content.decode()
    assert '<noscript><meta http-equiv="refresh"' in page


def test_without_scripts_preparing_leads_back_to_the_page(standard: Sae, client: Client) -> None:
    answer = client.post(f"/saes/{standard.id}/prepare/", {"format": "saelens"})
    assert (answer.status_code, answer["Location"]) == (302, f"/saes/{standard.id}/")
    answer = client.get(f"/saes/{standard.id}/formats/")
    assert (answer.status_code, answer["Location"]) == (302, f"/saes/{standard.id}/")


def test_when_the_job_has_ended_the_page_is_told_and_no_more_is_asked(
    standard: Sae, client: Client
) -> None:
    prepare(client, standard)
    answer = client.get(f"/saes/{standard.id}/formats/", headers=HTMX)
    assert "HX-Trigger-After-Swap" not in answer
    Job.objects.update(state=Job.State.DONE)
    put_file(standard, "exports/saelens/cfg.json", b"{}")
    answer = client.get(f"/saes/{standard.id}/formats/", headers=HTMX)
    assert "mistudio:refresh" in answer["HX-Trigger-After-Swap"]
    text = answer.content.decode()
    assert "hx-trigger" not in text
    assert "format=saelens" in text


def test_a_failure_says_what_to_do_and_can_be_tried_again(standard: Sae, client: Client) -> None:
    prepare(client, standard)
    Job.objects.update(
        state=Job.State.FAILED, error_code="disk_full", error_message="`x` is <b>full</b>.",
        error_solution="Free some space.",
    )  # fmt: skip
    there = row(client, standard, "SAELens")
    for said in ("<code>x</code> is &lt;b&gt;full", "Free some space.", "disk_full", "Try again"):
        assert said in there
    prepare(client, standard)
    assert "Queued" in row(client, standard, "SAELens")


def test_a_cancelled_one_can_be_prepared_again(standard: Sae, client: Client) -> None:
    prepare(client, standard)
    assert "Cancel" in row(client, standard, "SAELens")
    client.post(f"/saes/{standard.id}/cancel/")
    assert "Prepare" in row(client, standard, "SAELens")


def test_the_job_of_somebody_else_is_seen_but_not_cancelled(
    standard: Sae, owner: User, db: None
) -> None:
    jobs.start_export(owner, standard, "saelens")
    there = row(signed_in(person("erin", roles.EDITOR)), standard, "SAELens")
    assert "Queued" in there
    assert "Cancel" not in there


def test_during_another_job_nothing_can_be_prepared(standard: Sae, client: Client) -> None:
    jobs.start_verifying(None, standard)
    assert " disabled" in row(client, standard, "SAELens")
    assert prepare(client, standard).startswith("409")


@pytest.mark.parametrize("format", ["", "nonsense", "../../x", "openai", "original"])
def test_what_is_no_format_to_prepare(standard: Sae, client: Client, format: str) -> None:
    assert prepare(client, standard, format)[:3] in ("409", "422", "302")
    assert not standard.jobs.exists()


@pytest.mark.parametrize("architecture", NOT_PLAIN)
def test_a_kept_sae_offers_its_original_alone(sae: Sae, client: Client, architecture: str) -> None:
    facts = {"architecture": {"value": architecture, "origin": "file"}}
    Sae.objects.filter(id=sae.id).update(architecture=architecture, facts=facts)
    text = panel(client, sae)
    assert "format=original" in text
    assert "miStudio" not in text
    assert "Prepare" not in text


def test_before_anything_is_there_the_panel_says_when(standard: Sae, client: Client) -> None:
    Sae.objects.filter(id=standard.id).update(status=Sae.Status.DOWNLOADING)
    text = panel(client, standard)
    assert "as soon as the SAE is ready" in text
    assert "download" not in text.replace("downloaded", "")


def test_of_a_failed_sae_what_was_fetched_is_offered(standard: Sae, client: Client) -> None:
    Sae.objects.filter(id=standard.id).update(
        status=Sae.Status.ERROR, downloaded_at=standard.created_at
    )
    assert "format=original" in row(client, standard, "Original files")
    assert "When the SAE is ready" in row(client, standard, "miStudio")


def test_files_that_cannot_be_found_in_the_library_are_not_offered(
    standard: Sae, client: Client
) -> None:
    standard.files.filter(path__startswith="native/").delete()
    there = row(client, standard, "miStudio")
    assert "Its files are not here" in there
    assert "format=mistudio" not in there
    assert services.library().native(standard.id).is_dir()
