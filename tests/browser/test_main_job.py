"""The main job in a browser: preview, download, watch, reload, ready, delete."""

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.apps import App, manage
from tests.browser.conftest import GEMMA, OLD, SAELENS, Browsing
from tests.hub import LocalHub, faults
from tests.jobs.test_download import is_body

pytestmark = [pytest.mark.processes, pytest.mark.browser]
SOON = 60_000  # milliseconds


@pytest.fixture(autouse=True)
def nothing_left(running_app: App, repositories: LocalHub) -> Iterator[None]:
    """What a failed test has downloaded would be no download for the next one."""
    yield
    saes = json.loads(manage("sae_list", "--json", env=running_app.env).stdout)["data"]
    left = [sae["id"] for sae in saes if sae["hf_repo_id"] in (SAELENS, OLD)]
    if left:
        repositories.faults.clear()
        manage("sae_delete", "--yes", *left, env=running_app.env)


def start_download(page: Page, repo: str, where: str) -> None:
    """From the Hub page to the page of the new SAE."""
    page.goto("/hub/")
    page.get_by_label("Repository", exact=True).fill(repo)
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name=f"Download {where}").click()
    page.wait_for_url(re.compile("/saes/sae_"))


def percent(page: Page) -> float:
    bar = page.get_by_role("progressbar")
    value = bar.get_attribute("value") if bar.count() else None
    return float(value or 0)


def watch(page: Page, until: float) -> list[float]:
    """The values that the bar shows, until one is at least `until`."""
    seen = [percent(page)]
    for _ in range(400):
        if seen[-1] >= until:
            break
        page.wait_for_timeout(50)
        if (now := percent(page)) != seen[-1]:
            seen.append(now)
    return seen


def delete(page: Page) -> None:
    page.wait_for_load_state("networkidle")  # the page may still be refreshing what became ready
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    # The card says so too, but before the answer has come.
    expect(page.get_by_role("status").filter(has_text="Deleted ")).to_be_visible(timeout=SOON)


def test_a_gemma_scope_sae_is_previewed_downloaded_and_watched(
    browsing: Browsing, repositories: LocalHub
) -> None:
    slow = repositories.faults.add(
        "params.npz", faults.slow(2500), where="cdn", times=None, skip=20
    )
    page = browsing.open("/hub/")
    page.get_by_label("Repository", exact=True).fill(f"https://huggingface.co/{GEMMA}/tree/main")
    page.get_by_role("button", name="Preview").click()
    row = page.get_by_role("row").filter(has_text="average_l0_41")
    expect(row).to_contain_text("16 × 64")  # true shapes, read when the row came into view
    expect(row).to_contain_text("jumprelu")
    slow.skip = 0
    row.get_by_role("button", name="Download").click()
    page.wait_for_url(re.compile("/saes/sae_"))
    seen = watch(page, 30)
    assert seen == sorted(seen)
    assert len(seen) >= 4, seen
    page.reload()
    assert percent(page) >= seen[-1]
    seen_after = watch(page, 60)
    assert seen_after == sorted(seen_after)
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    repositories.faults.clear()
    page.goto("/?search=gemma")
    expect(page.get_by_role("row").filter(has_text="average_l0_41")).to_contain_text("Ready")


def test_a_saelens_sae_becomes_ready_and_is_deleted(
    browsing: Browsing, repositories: LocalHub
) -> None:
    page = browsing.open()
    start_download(page, SAELENS, "blocks.3.hook_resid_post")
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    address = page.url
    delete(page)
    page.goto("/")
    expect(page.locator(f'a[href="{urlsplit(address).path}"]')).to_have_count(0)
    answer = page.request.get(address)
    assert answer.status == 404


def test_escape_closes_the_delete_dialog_and_nothing_is_deleted(browsing: Browsing) -> None:
    page = browsing.open()
    start_download(page, SAELENS, "blocks.3.hook_resid_post")
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    button = page.get_by_role("link", name="Delete")
    button.click()
    expect(page.get_by_role("dialog")).to_contain_text("kB")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    page.reload()
    expect(page.get_by_text("Ready").first).to_be_visible()
    delete(page)


def test_a_cancelled_download_can_be_retried(browsing: Browsing, repositories: LocalHub) -> None:
    stall = faults.stall(100, 60)
    repositories.faults.add(is_body, stall, where="cdn", times=None)
    page = browsing.open()
    start_download(page, SAELENS, "blocks.3.hook_resid_post")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("cancelled", exact=True)).to_be_visible(timeout=SOON)
    repositories.faults.clear()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    delete(page)


def test_missing_facts_are_asked_for_and_the_answer_finishes_the_job(browsing: Browsing) -> None:
    page = browsing.open()
    start_download(page, OLD, "checkpoints/checkpoint_5000/layer_3_residual")
    form = page.locator("#needs-facts")
    expect(form).to_be_visible(timeout=SOON)
    form.get_by_role("radio", name=re.compile("^1")).check()
    form.get_by_role("radio", name=re.compile("^constant_norm_rescale")).check()
    form.get_by_role("button").last.click()
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    delete(page)


def test_without_a_socket_the_page_polls(browsing: Browsing, repositories: LocalHub) -> None:
    repositories.faults.add(is_body, faults.slow(2000), where="cdn", times=None)
    page = browsing.open()
    page.route_web_socket(re.compile("/ws/"), lambda socket: socket.close(code=1011))
    start_download(page, SAELENS, "blocks.3.hook_resid_post")
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    repositories.faults.clear()
    delete(page)


def test_everything_works_without_javascript(browsing: Browsing) -> None:
    page = browsing.open("/hub/", java_script_enabled=False)
    start_download(page, SAELENS, "blocks.3.hook_resid_post")
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_role("heading", name="Delete this SAE?")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Deleted saes")).to_be_visible()


def test_a_repository_without_saes_says_what_was_looked_for(browsing: Browsing) -> None:
    page = browsing.open("/hub/someone/text/")
    expect(page.get_by_role("heading", name="No SAE was found here")).to_be_visible()
    expect(page.get_by_text("cfg.json").first).to_be_visible()


def test_the_theme_switch_stays_as_it_was_set(browsing: Browsing) -> None:
    page = browsing.open()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "light")
    page.get_by_role("button", name=re.compile("theme", re.IGNORECASE)).click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")


def test_slash_goes_to_the_search(browsing: Browsing) -> None:
    page = browsing.open()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
