"""The admin in a real browser: whole under the strict policy, and in both themes."""

import os
import re
from pathlib import Path

import pytest
from django.contrib.admin.utils import quote
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Browsing, violations
from tests.browser.test_main_job import SOON, start_download
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

pytestmark = [pytest.mark.processes, pytest.mark.browser]
SAES = "/admin/saes/sae/"


@pytest.fixture
def sae(browsing: Browsing, repositories: LocalHub, request: pytest.FixtureRequest) -> str:
    """The id of one that was downloaded, another for each test."""
    repo = f"admin/{re.sub(r'[^a-z]+', '-', request.node.name.lower()).strip('-')}"
    repositories.add_repo(repo, sample_files("saelens_v6_standard"))
    page = browsing.open(f"/hub/{repo}/")
    start_download(page, repo, "blocks.3.hook_resid_post")
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    return page.url.rstrip("/").rpartition("/")[2]


def taken(page: Page, name: str) -> None:
    """A picture for whoever asks for one."""
    if folder := os.environ.get("MISTUDIO_TEST_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_admin_is_whole_in_both_themes(browsing: Browsing, sae: str, theme: str) -> None:
    page = browsing.open(SAES, theme=theme)
    badge = page.locator(".badge-good", has_text="Ready").first
    expect(badge).to_be_visible()
    colour = badge.evaluate("it => getComputedStyle(it).color")
    assert colour == {"light": "rgb(29, 122, 60)", "dark": "rgb(107, 211, 148)"}[theme]
    assert page.get_by_role("link", name="Add SAE").count() == 0
    taken(page, f"list-{theme}")
    assert violations(page) == []

    page.goto(f"{SAES}{quote(sae)}/change/")
    expect(page.locator("pre.block").first).to_be_visible()
    expect(page.get_by_role("link", name="Its jobs")).to_be_visible()
    taken(page, f"form-{theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280

    page.goto(f"{SAES}{quote(sae)}/delete/")
    expect(page.get_by_label("Keep the files")).to_be_visible()
    expect(page.get_by_text(re.compile("Deleting frees .* kB"))).to_be_visible()
    taken(page, f"delete-{theme}")
    assert violations(page) == []

    page.goto("/admin/saes/job/")
    expect(page.locator(".badge-good", has_text="Done").first).to_be_visible()
    taken(page, f"jobs-{theme}")
    page.locator("th.field-id a").first.click()
    taken(page, f"job-{theme}")


def test_rows_are_verified_exported_and_deleted_by_hand(browsing: Browsing, sae: str) -> None:
    page = browsing.open(SAES)
    row = page.locator("tr", has=page.locator(f"a[href*='{quote(sae)}']"))
    choose(page, row.locator("input.action-select"), "Verify the files again")
    expect(page.locator(".messagelist")).to_contain_text("1 queued for verifying.")

    with page.expect_download() as download:
        choose(page, row.locator("input.action-select"), "Export as CSV")
    assert download.value.suggested_filename == "saes.csv"
    assert sae in Path(download.value.path()).read_text("utf-8")

    choose(page, row.locator("input.action-select"), "Delete, with their files")
    expect(page.locator("#doomed")).to_contain_text("kB")
    taken(page, "delete-selected")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".messagelist")).to_contain_text("1 deleted")
    expect(row).to_have_count(0)


def choose(page: Page, box: Locator, action: str) -> None:
    box.check()
    page.get_by_label("Action:").select_option(label=action)
    page.get_by_role("button", name="Run the selected action").or_(
        page.get_by_role("button", name="Go")
    ).first.click()
