"""Hub tokens in a browser: added, tested, chosen and removed, with and without JavaScript."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Browsing, violations
from tests.hub import LocalHub, faults

pytestmark = [pytest.mark.processes, pytest.mark.browser]
PAGE = "/hub/tokens/"
WRITES, READS = "hf_alice_writes_aaaa", "hf_alice_reads_bbbb"
LONG = "of-" + "a-very-long-name-" * 6


@pytest.fixture(autouse=True)
def tokens(app_hub: LocalHub, browsing: Browsing) -> Iterator[None]:
    app_hub.add_token(WRITES, "alice", "write", orgs={"lab": "write", LONG: "read"})
    app_hub.add_token(READS, "alice", "fineGrained", repos=[f"lab/{LONG}"], writes=["alice/saes"])
    yield
    page = browsing.open(PAGE)
    while (link := page.get_by_role("link", name=re.compile("^Remove"))).count():
        page.goto(str(link.first.get_attribute("href")))
        page.get_by_role("button", name="Remove").click()
        page.wait_for_url(f"**{PAGE}")


def add(page: Page, name: str, token: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Token", exact=True).fill(token)
    page.get_by_role("button", name="Add token").click()


def fits(page: Page, width: int) -> None:
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_token_is_added_tested_chosen_and_removed(
    browsing: Browsing, app_hub: LocalHub, width: int, theme: str
) -> None:
    page = browsing.open(PAGE, width=width, theme=theme)
    fits(page, width)
    add(page, "Reading", READS)
    expect(page.get_by_text("Added Reading: the Hub knows this token.")).to_be_visible()
    add(page, "Publishing", WRITES)
    expect(page.get_by_text("Reads, and writes to repositories of alice, lab.")).to_be_visible()
    page.get_by_text("Organizations and scopes").last.click()
    fits(page, width)
    assert WRITES not in page.content() and READS not in page.content()

    app_hub.revoke_token(WRITES)
    button = page.get_by_role("button", name="Test Publishing")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Refused")).to_be_visible()
    expect(page.locator("#announcer")).to_contain_text("wrong or was revoked")
    expect(page.get_by_role("button", name="Test Publishing")).to_be_focused()
    fits(page, width)

    page.get_by_role("button", name="Make usual Publishing").click()
    expect(page.get_by_text("Publishing is the usual one now.")).to_be_visible()
    expect(page.locator("tbody tr").first).to_contain_text("Usual")
    page.get_by_role("link", name="Remove Publishing").click()
    dialog = page.get_by_role("dialog", name="Remove this token?")
    expect(dialog).to_be_visible()
    fits(page, width)
    dialog.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Removed Publishing.")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(1)
    fits(page, width)


def test_the_token_can_be_looked_at_while_it_is_typed_and_not_after(browsing: Browsing) -> None:
    page = browsing.open(PAGE)
    field = page.get_by_label("Token", exact=True)
    expect(field).to_have_attribute("type", "password")
    page.get_by_role("button", name="Show the token").click()
    expect(field).to_have_attribute("type", "text")
    add(page, "Wrong", "hf_nobody_knows_this")
    expect(page.get_by_text("It was not stored.")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("Wrong")
    expect(page.get_by_label("Token", exact=True)).to_have_value("")
    assert violations(page) == []
    assert browsing.complaints == [f"422 {page.url}"]
    browsing.complaints.clear()


def test_while_the_hub_is_in_trouble_a_test_says_so_and_changes_nothing(
    browsing: Browsing, app_hub: LocalHub
) -> None:
    page = browsing.open(PAGE)
    add(page, "Reading", READS)
    app_hub.faults.add("/api/whoami-v2", faults.status(500), times=None)
    page.get_by_role("button", name="Test Reading").click()
    expect(page.locator("#problem")).to_contain_text("answered with an error (500)")
    expect(page.get_by_text("Works")).to_be_visible()
    assert all("502 " in it for it in browsing.complaints)
    browsing.complaints.clear()


def test_hub_tokens_need_no_javascript(browsing: Browsing) -> None:
    page = browsing.open(PAGE, java_script_enabled=False)
    add(page, "Reading", READS)
    add(page, "Publishing", WRITES)
    page.get_by_role("button", name="Test Publishing").click()
    expect(page.get_by_text("Publishing: the Hub knows this token.")).to_be_visible()
    page.get_by_role("button", name="Make usual Publishing").click()
    expect(page.locator("tbody tr").first).to_contain_text("Publishing Usual")
    page.get_by_role("link", name="Remove Reading").click()
    expect(page.get_by_role("heading", name="Remove this token?")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Removed Reading.")).to_be_visible()


def test_the_menu_leads_there(browsing: Browsing) -> None:
    page = browsing.open("/")
    page.locator("summary", has_text="owner").click()
    page.get_by_role("link", name="Hub tokens").click()
    expect(page.get_by_role("heading", name="Hub tokens", exact=True)).to_be_visible()
