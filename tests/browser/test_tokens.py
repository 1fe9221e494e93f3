"""API tokens in a browser: made, copied, used, revoked, and the documentation that they are for."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Browsing, violations

pytestmark = [pytest.mark.processes, pytest.mark.browser]
PAGE = "/account/tokens/"


def create(page: Page, name: str) -> str:
    """The new token, as the page shows it."""
    page.get_by_label("Name").fill(name)
    page.get_by_role("radio", name=re.compile("Read and write")).check()
    page.get_by_label("Expires").select_option("in 30 days")
    page.get_by_role("button", name="Create token").click()
    field = page.locator("#new-token")
    expect(field).to_have_value(re.compile(r"^mis_[\w-]{43}$"))
    return field.input_value()


def status_with(page: Page, token: str) -> int:
    answer = page.request.get("/api/v1/saes", headers={"Authorization": f"Bearer {token}"})
    return answer.status


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_token_is_made_copied_and_revoked(browsing: Browsing, width: int, theme: str) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    page = browsing.open(PAGE, width=width, theme=theme, permissions=permissions)
    name = f"notebook {width} {theme}"
    token = create(page, name)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == token
    assert status_with(page, token) == 200
    page.goto(PAGE)
    assert token not in page.content()
    page.get_by_role("link", name=f"Revoke {name}").click()
    dialog = page.get_by_role("dialog", name="Revoke this token?")
    expect(dialog).to_be_visible()
    assert violations(page) == []
    dialog.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text(f"Revoked {name}.")).to_be_visible()
    assert violations(page) == []
    assert status_with(page, token) == 401


def test_tokens_need_no_javascript(browsing: Browsing) -> None:
    page = browsing.open(PAGE, java_script_enabled=False)
    token = create(page, "plain")
    assert status_with(page, token) == 200
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    page.get_by_role("link", name="Revoke plain").click()
    expect(page.get_by_role("heading", name="Revoke this token?")).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Revoked plain.")).to_be_visible()
    assert status_with(page, token) == 401


@pytest.mark.parametrize("width", [1280, 390])
def test_the_documentation_tries_requests_out_with_the_session(
    browsing: Browsing, width: int
) -> None:
    """A complaint of the console, such as one of the security policy, fails this test."""
    page = browsing.open("/api/v1/docs", width=width)
    operation = page.locator(".opblock-post").filter(has_text="/api/v1/saes/delete")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("textarea").fill('{"sae_ids": ["sae_none"]}')
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("200")
    expect(answer).to_contain_text("failed_count")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
