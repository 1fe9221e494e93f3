"""The page of a folder: what is listed, what is chosen, what is said."""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from saes import imports, roles
from saes.models import Job, Sae
from tests.fixtures import write_saelens
from tests.imports.test_files import imported, many
from tests.views.conftest import signed_in
from tests.views.people import somebody

PAGE, START = "/import/", "/import/start/"


@pytest.fixture
def editor(db: None) -> Client:
    return signed_in(somebody("erin", roles.EDITOR))


def test_of_a_large_folder_the_first_are_listed_and_all_can_be_chosen(
    editor: Client, root: Path
) -> None:
    many(root, 510)
    page = editor.get(PAGE, {"path": "imports"}).content.decode()
    assert page.count('name="where"') == 500
    assert page.count("&#10;") == 510
    assert "Select all 510" in page
    answer = editor.post(START, {"path": "imports", "every": "1", "placement": "link"})
    assert answer.status_code == 302
    assert Job.objects.filter(kind="import").count() == 510
    assert set(Sae.objects.values_list("placement", flat=True)) == {"link"}


def test_what_is_here_has_no_box_but_a_way_to_it(editor: Client, root: Path) -> None:
    write_saelens(root / "sae")
    sae = imported("imports/sae")
    page = editor.get(PAGE, {"path": "imports"}).content.decode()
    assert 'name="where"' not in page
    assert f'href="/saes/{sae.id}/"' in page and "Already imported" in page
    answer = editor.post(START, {"path": "imports", "where": ["sae"], "placement": "copy"})
    assert answer["Location"] == "/import/?path=imports"


def test_roots_that_are_not_there_are_told(editor: Client, root: Path) -> None:
    root.rmdir()
    page = editor.get(PAGE).content.decode()
    assert "It is not there" in page and str(root) in page


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"path": "/etc"}, 400), ({"path": "imports/nothing"}, 404),
        ({"path": "imports", "where": ["nothing"], "placement": "copy"}, 404),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(
    editor: Client, root: Path, sent: dict[str, Any], status: int
) -> None:
    answer = editor.post(START, sent) if "where" in sent else editor.get(PAGE, sent)
    assert answer.status_code == status
    assert "error-card" in answer.content.decode()
    assert not Sae.objects.exists()


def test_a_form_that_is_wrong_starts_nothing(editor: Client, root: Path) -> None:
    write_saelens(root / "sae")
    answer = editor.post(START, {"path": "imports", "where": ["sae"], "placement": "move"})
    assert answer.status_code == 302
    assert "was not filled in" in editor.get(answer["Location"]).content.decode()
    assert not Sae.objects.exists()


def test_the_demo_button_makes_an_sae_and_leads_to_it(editor: Client, root: Path) -> None:
    assert "Try a demo" in editor.get("/").content.decode()
    answer = editor.post("/demo/")
    assert answer["Location"] == f"/saes/{Sae.objects.get().id}/"
    assert imports.here_of("imports")
