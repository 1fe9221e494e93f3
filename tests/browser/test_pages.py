"""Every page: no serious accessibility violation and no sideways scrolling, in both themes."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import GEMMA, OLD, SAELENS, Browsing, violations
from tests.browser.test_main_job import SOON, start_download

pytestmark = [pytest.mark.processes, pytest.mark.browser]
PAGES = [
    "/", "/?search=nothing-matches-this", "/hub/", f"/hub/{GEMMA}/", f"/hub/{SAELENS}/",
    "/hub/someone/text/", "/hub/someone/gated/", "/jobs/", "/jobs/?kind=export",
    "/jobs/cancel-all/", "/storage/", "/account/tokens/", "/hub/tokens/",
    "READY", "READY/delete/", "FACTS", "/publish/", "/publish/history/",
]  # fmt: skip
MISSING = ["/hub/someone/missing/", "/saes/sae_000000000000/"]


@pytest.fixture(scope="module")
def addresses() -> dict[str, str]:
    return {}


@pytest.fixture(autouse=True)
def two_saes(browsing: Browsing, addresses: dict[str, str]) -> None:
    """One that is ready and one that asks for facts, made once."""
    if addresses:
        return
    page = browsing.open()
    start_download(page, SAELENS, "blocks.3.hook_resid_post")
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    addresses["READY"] = page.url.rstrip("/")
    start_download(page, OLD, "checkpoints/checkpoint_5000/layer_3_residual")
    expect(page.locator("#needs-facts")).to_be_visible(timeout=SOON)
    addresses["FACTS"] = page.url


def address_of(path: str, addresses: dict[str, str]) -> str:
    for name, address in addresses.items():
        path = path.replace(name, address)
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_accessible_and_fits(
    browsing: Browsing, addresses: dict[str, str], path: str, theme: str
) -> None:
    page = browsing.open(address_of(path, addresses), theme=theme)
    page.wait_for_load_state("networkidle")
    for width in (1280, 390):  # the same page: what it looks like at a width is styles alone
        page.set_viewport_size({"width": width, "height": 900})
        assert violations(page) == [], width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.get_by_role("heading", level=1).count() == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", MISSING)
def test_error_pages_are_accessible_and_say_what_to_do(
    browsing: Browsing, path: str, theme: str
) -> None:
    page = browsing.open(path, theme=theme)
    assert violations(page) == []
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    browsing.complaints.clear()  # the console notes the 404 itself


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_sign_in_page_is_accessible(browsing: Browsing, theme: str) -> None:
    page = browsing.context(color_scheme=theme).new_page()
    page.goto("/")
    expect(page).to_have_url(re.compile("/sign-in/"))
    assert violations(page) == []
