"""Importing from folders of the server, by mouse and by keyboard, with and without JavaScript."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.apps import App
from tests.browser.conftest import Browsing, violations
from tests.browser.test_main_job import SOON
from tests.fixtures import write_saelens

pytestmark = [pytest.mark.processes, pytest.mark.browser]


@pytest.fixture
def root(running_app: App) -> Iterator[Path]:
    folder = running_app.data_dir / "imports" / "browsed"
    for layer in range(3):
        write_saelens(folder / f"layer_{layer}")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (1280, "dark"), (390, "dark")])
def test_some_of_a_folder_are_chosen_and_become_ready(
    browsing: Browsing, root: Path, width: int, theme: str
) -> None:
    page = browsing.open("/import/", width=width, theme=theme)
    assert violations(page) == []
    page.get_by_role("link", name=re.compile("^imports")).click()
    page.get_by_role("link", name=re.compile("^browsed")).click()
    expect(page.get_by_role("status").first).to_contain_text("3 SAEs in this folder")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    begin = page.get_by_role("button", name=re.compile("^Import"))
    expect(begin).to_be_disabled()
    free = page.get_by_role("checkbox", name=re.compile("^Select browsed"))
    chosen = free.first.get_attribute("value")
    free.first.check()
    page.get_by_role("radio", name="Leave in place").check(force=True)
    expect(begin).to_have_text("Import 1 SAE")
    begin.click()
    page.wait_for_url(re.compile("/jobs/.*batch="))
    expect(page.get_by_text("Done").first).to_be_visible(timeout=SOON)
    page.goto("/import/?path=imports/browsed")
    row = page.get_by_role("row").filter(has_text=str(chosen))
    expect(row.get_by_role("link", name="Already imported")).to_be_visible()
    expect(row.get_by_role("checkbox")).to_have_count(0)
    row.get_by_role("link", name="Already imported").click()
    expect(page.get_by_text("The conversion is exact")).to_be_visible()
    expect(page.get_by_text("stay there; the library has the conversion alone")).to_be_visible()
    assert violations(page) == []


def test_without_javascript_all_of_a_folder_is_imported(browsing: Browsing, root: Path) -> None:
    page = browsing.open("/import/", java_script_enabled=False)
    page.get_by_role("textbox", name="Folder or file").fill(str(root))
    page.get_by_role("button", name="Look").click()
    page.get_by_role("button", name=re.compile("^Import all")).click()
    expect(page).to_have_url(re.compile("/jobs/.*batch="))


def test_a_path_outside_is_refused_in_words(browsing: Browsing) -> None:
    page = browsing.open("/import/")
    page.get_by_role("textbox", name="Folder or file").fill("/etc")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_role("heading", name=re.compile("none of the folders"))).to_be_visible()
    assert violations(page) == []
    page.get_by_role("link", name="Import folders").click()
    expect(page.get_by_role("heading", name="Import", exact=True)).to_be_visible()
    browsing.complaints.clear()  # the browser's own word for a 400
