"""Publications in the admin: what was confirmed and what became of it, for those it concerns."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from saes import roles
from saes.models import Job, Publication, Published, Sae
from tests.admin.conftest import key, signed_in, staff

pytestmark = pytest.mark.django_db
ROWS = "/admin/saes/publication/"


@pytest.fixture
def row(owner: User, sae: Sae) -> Publication:
    made = Publication.objects.create(
        repo_id="alice/hidden", message="Publish layer_6", account="alice", created_by=owner
    )
    Published.objects.create(publication=made, sae=sae, name="Residual <6>", folder="layer_6")
    Job.objects.create(kind=Job.Kind.PUBLISH, sae=sae, publication=made, state="failed")
    return made


def page(row: Publication) -> str:
    return f"{ROWS}{key(row)}/change/"


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_a_publication_shows_what_was_confirmed_and_how_it_stands(
    client: Client, row: Publication
) -> None:
    listed = text_of(client, ROWS)
    assert "alice/hidden" in listed and "layer_6" in listed and "Failed" in listed
    shown = text_of(client, page(row))
    assert "Publish layer_6" in shown and "Residual &lt;6&gt;" in shown
    assert f"publication__id__exact={row.pk}" in shown
    assert row.repo_id in text_of(client, f"{ROWS}?q=hidden")


def test_its_jobs_are_found_in_the_list_of_jobs(client: Client, row: Publication) -> None:
    job = row.jobs.get()
    assert job.id in text_of(client, f"/admin/saes/job/?publication__id__exact={row.pk}")


def test_no_post_changes_or_removes_one(client: Client, row: Publication) -> None:
    assert client.post(page(row), {"repo_id": "x/y", "_save": "Save"}).status_code == 403
    assert client.post(f"{ROWS}{key(row)}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"{ROWS}add/", {"repo_id": "x/y"}).status_code == 403
    row.refresh_from_db()
    assert row.repo_id == "alice/hidden"


def test_those_of_others_are_not_told(row: Publication) -> None:
    other = signed_in(staff("other", roles.EDITOR))
    assert "alice/hidden" not in text_of(other, ROWS)
    assert other.get(page(row)).status_code == 302  # "does not exist", says the admin
    assert "alice/hidden" not in text_of(other, f"{ROWS}?q=hidden")


@pytest.mark.parametrize("query", ["sent__a=b", "jobs__token__last_four=abcd", "seen__contains=x"])
def test_no_query_asks_about_what_is_not_shown(
    client: Client, row: Publication, query: str
) -> None:
    assert client.get(f"{ROWS}?{query}").status_code == 400
