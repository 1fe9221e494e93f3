"""Pages offer to each what they may do, and nothing else."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.template import Context, Template
from django.test import Client

from saes import roles
from saes.models import Job, Sae
from tests.views.conftest import signed_in
from tests.views.people import somebody

pytestmark = pytest.mark.django_db


@pytest.fixture
def erin(db: None) -> User:
    return somebody("erin", roles.EDITOR)


@pytest.fixture
def vera(db: None) -> User:
    return somebody("vera", roles.VIEWER)


@pytest.fixture
def busy(job: Job, erin: User) -> Sae:
    """An SAE that erin's job is at work on."""
    Job.objects.filter(id=job.id).update(created_by=erin)
    return job.sae


def forms(user: User, path: str) -> set[str]:
    """Where the forms and verbs of a page lead to, but for signing out."""
    text = signed_in(user).get(path).content.decode()
    found = re.findall(r'(?:action|hx-get|hx-post)="(/saes/[^"]*/[\w-]+/|/storage/\w+/\w+/)"', text)
    return {path for path in found if not path.endswith("/card/")}


def test_where_the_files_lie_on_the_server_is_for_editors(
    vera: User, erin: User, data_dir: Path
) -> None:
    for user, told in ((vera, False), (erin, True)):
        page = signed_in(user).get("/storage/").content.decode()
        assert "What other programs take" in page
        assert (str(data_dir) in page) == told


def test_a_viewer_is_offered_no_change(sae: Sae, vera: User, erin: User) -> None:
    assert forms(vera, f"/saes/{sae.id}/") == set()
    assert forms(vera, "/storage/") == set()
    verbs = {f"/saes/{sae.id}/{verb}/" for verb in ("edit", "facts", "delete")}
    assert verbs <= forms(erin, f"/saes/{sae.id}/")
    offered = {f"/saes/{sae.id}/delete/", f"/saes/{sae.id}/remove-source/"}
    assert forms(erin, "/storage/") == offered


def test_only_who_started_a_job_is_offered_to_stop_it(busy: Sae, erin: User) -> None:
    stops = {f"/saes/{busy.id}/{verb}/" for verb in ("cancel", "delete")}
    assert stops <= forms(erin, f"/saes/{busy.id}/")
    other, admin = somebody("otto", roles.EDITOR), somebody("ada", roles.ADMIN)
    assert not stops & forms(other, f"/saes/{busy.id}/")
    assert stops <= forms(admin, f"/saes/{busy.id}/")


def test_who_presses_it_all_the_same_is_told_why_not(busy: Sae) -> None:
    client = signed_in(somebody("otto", roles.EDITOR))
    path = f"/saes/{busy.id}/cancel/"
    page, card = client.post(path), client.post(path, headers={"hx-request": "true"})
    for answer in (page, card):
        assert answer.status_code == 403
        assert "Somebody else started this job." in answer.content.decode()
    assert "<html" in page.content.decode() and "<html" not in card.content.decode()


def test_the_history_names_who_started_a_job_and_no_details_of_it(
    busy: Sae, job: Job, vera: User, erin: User
) -> None:
    Job.objects.filter(id=job.id).update(
        state=Job.State.CRASHED, error_code="crashed", traceback="secret lines"
    )
    seen = signed_in(vera).get(f"/saes/{busy.id}/").content.decode()
    assert 'data-label="By">erin<' in seen
    assert job.id not in seen and "<code>crashed</code>" not in seen
    assert job.id in signed_in(erin).get(f"/saes/{busy.id}/").content.decode()
    staff = somebody("stan", roles.EDITOR)
    staff.is_staff = True
    staff.save()
    assert "secret lines" not in signed_in(staff).get(f"/saes/{busy.id}/").content.decode()


@pytest.mark.parametrize(
    ("role", "shown"),
    [(None, "viewer"), (roles.VIEWER, "viewer"), (roles.EDITOR, "editor"), (roles.ADMIN, "admin")],
)
def test_the_menu_names_the_role(role: str | None, shown: str) -> None:
    text = signed_in(somebody("sam", role)).get("/").content.decode()
    assert f'<b>sam</b><span class="chip">{shown}</span>' in text


def test_the_owner_is_an_admin(client: Client) -> None:
    assert '<b>owner</b><span class="chip">admin</span>' in client.get("/").content.decode()


def test_a_page_that_does_not_say_who_looks_offers_nothing(sae: Sae) -> None:
    text = "{% load access %}{% if viewer|may_edit or sae|deletable_by:viewer %}offered{% endif %}"
    assert Template(text).render(Context({"sae": sae})) == ""
