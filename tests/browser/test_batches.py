"""Choosing many SAEs in a browser: by mouse, with Shift, by keys, and without JavaScript."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Browsing, violations
from tests.browser.test_main_job import SOON
from tests.fixtures.releases import gemma_scope, made_up
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

pytestmark = [pytest.mark.processes, pytest.mark.browser]
WHOLE, MANY, SMALL = "whole/gemma-scope-2b-pt-res", "made/up", "small/gemma-scope-2b-pt-res"


@pytest.fixture(scope="module", autouse=True)
def releases(app_hub: LocalHub) -> None:
    (content,) = sample_files("gemma_scope_1_res").values()
    names = [f"layer_{n}/width_{w}k/average_l0_9" for n in range(4) for w in (16, 65)]
    app_hub.add_repo(WHOLE, gemma_scope())
    app_hub.add_repo(MANY, made_up(3000))
    app_hub.add_repo(SMALL, {f"{name}/params.npz": content for name in names})


@pytest.fixture
def page(browsing: Browsing) -> Iterator[Page]:
    yield browsing.open(f"/hub/{WHOLE}/")


def pick(page: Page, where: str) -> Locator:
    return page.locator(f'input[name=where][value="{where}"]')


def gemma(page: Page, layer: int, width: str, l0: int) -> Locator:
    return pick(page, f"layer_{layer}/width_{width}/average_l0_{l0}")


def chosen(page: Page) -> list[str]:
    return [str(it) for it in page.locator("input[name=where]:checked").evaluate_all(
        "boxes => boxes.map(box => box.value)")]  # fmt: skip


def expect_count(page: Page, count: int) -> None:
    saes = f"{count:,} SAE{'' if count == 1 else 's'}"
    expect(page.locator("[data-begin]")).to_have_text(f"Download {saes}" if count else "Download")
    expect(page.locator("[data-number=count]")).to_have_text(f"{count:,}")


# --- by mouse -------------------------------------------------------------------------------------


def test_clicks_choose_and_the_footer_says_what_it_takes(page: Page) -> None:
    begin = page.locator("[data-begin]")
    expect(begin).to_be_disabled()
    gemma(page, 0, "16k", 13).click()
    gemma(page, 12, "1m", 19).click()
    expect_count(page, 2)
    expect(page.locator("[data-number=fetched]")).to_have_text("19.64 GB")
    expect(page.locator("[data-number=needed]")).to_have_text("39.28 GB")
    gemma(page, 12, "1m", 19).click()
    expect_count(page, 1)
    expect(page.locator("[data-number=fetched]")).to_have_text("302.1 MB")
    page.get_by_role("button", name="Clear selection").click()
    expect_count(page, 0)
    expect(begin).to_be_disabled()


def test_shift_chooses_the_block_between_two_and_moves_its_end(page: Page) -> None:
    gemma(page, 0, "16k", 25).click()
    gemma(page, 2, "16k", 53).click(modifiers=["Shift"])
    block = [f"layer_{n}/width_16k/average_l0_{l0}" for n, l0s in (
        (0, (25, 46)), (1, (20, 40)), (2, (24, 53))) for l0 in l0s]  # fmt: skip
    assert chosen(page) == block
    gemma(page, 1, "16k", 40).click(modifiers=["Shift"])  # a shorter one takes its place
    assert chosen(page) == block[:4]
    # To the last of a cell means however many there are; other widths lie between.
    gemma(page, 3, "65k", 193).click(modifiers=["Shift"])
    assert len(chosen(page)) == 4 + 4 + 5 + 4 + 4 * 5
    expect_count(page, 37)


def test_heads_choose_a_line_or_a_column_and_take_it_back(page: Page) -> None:
    layer = page.get_by_role("button", name="12", exact=True)
    layer.click()
    expect_count(page, 40)
    expect(layer).to_have_attribute("aria-pressed", "true")
    column = page.get_by_role("button", name="1m", exact=True)
    expect(column).to_have_attribute("aria-pressed", "mixed")
    column.click()
    expect_count(page, 40 + 12)
    layer.click()
    expect_count(page, 12)
    assert all("width_1m" in where for where in chosen(page))


def test_what_is_chosen_outlives_filters_and_the_other_view(page: Page) -> None:
    gemma(page, 0, "16k", 13).click()
    page.get_by_label("Any width").select_option("1m")
    expect(page.get_by_text("18 of 316 SAEs")).to_be_visible()
    expect_count(page, 1)
    page.get_by_role("button", name="Select all 18 that match").click()
    expect_count(page, 19)
    page.get_by_text("Table", exact=True).click()
    expect(page.get_by_role("row")).to_have_count(19)
    assert len(chosen(page)) == 18
    page.get_by_role("link", name="Clear filters").click()
    expect(page.get_by_text("316 SAEs", exact=True)).to_be_visible()
    expect_count(page, 19)
    page.get_by_role("button", name="Select all 316").click()  # also of the other pages
    expect_count(page, 316)


def test_too_much_for_the_disk_is_a_warning_with_numbers(page: Page) -> None:
    page.evaluate("document.querySelector('#choose').dataset.free = 1e9")
    gemma(page, 0, "16k", 13).click()
    expect(page.locator("[data-warning]")).to_be_hidden()
    gemma(page, 0, "16k", 25).click()
    expect(page.locator("[data-warning]")).to_have_text(
        "275.6 MB too little. Choose fewer, or free some space."
    )
    expect(page.locator("#announcer")).to_contain_text("2 SAEs selected, 604.3 MB to fetch. 275.6")


# --- by keys --------------------------------------------------------------------------------------


def test_arrow_keys_lead_through_the_grid_and_space_chooses(page: Page) -> None:
    gemma(page, 0, "16k", 13).focus()
    for key, then in [
        ("ArrowRight", (0, "16k", 25)), ("ArrowDown", (1, "16k", 20)), ("End", (1, "65k", 121)),
        ("ArrowLeft", (1, "65k", 54)), ("ArrowUp", (0, "65k", 43)),
        ("Control+End", (25, "65k", 197)),
    ]:  # fmt: skip
        page.keyboard.press(key)
        expect(gemma(page, *then)).to_be_focused()
    page.keyboard.press("Space")
    expect_count(page, 1)
    page.keyboard.press("Home")
    expect(page.get_by_role("button", name="25", exact=True)).to_be_focused()
    page.keyboard.press("Space")
    assert all("layer_25/" in where for where in chosen(page))
    expect_count(page, 10)
    # One of them is in the order of Tab, not 300.
    reached = page.locator("details[data-matrix]").first.locator("[tabindex='0']")
    assert reached.count() == 1


def test_shift_and_arrows_choose_a_block_and_give_it_back(page: Page) -> None:
    gemma(page, 0, "16k", 13).focus()
    for key, count in [("Right", 2), ("Down", 4), ("Down", 6), ("Right", 9), ("Up", 6)]:
        page.keyboard.press(f"Shift+Arrow{key}")
        expect_count(page, count)
    assert chosen(page) == [
        f"layer_{layer}/width_16k/average_l0_{l0}"
        for layer, l0s in ((0, (13, 25, 46)), (1, (10, 20, 40)))
        for l0 in l0s
    ]
    expect(gemma(page, 1, "16k", 40)).to_be_focused()


# --- sending --------------------------------------------------------------------------------------


def sent_by(page: Page) -> list[str]:
    """What forms send, as they send it."""
    sent: list[str] = []

    def note(route: Route) -> None:
        sent.append(route.request.post_data or "")
        route.continue_()

    page.route(re.compile("/batch/$"), note)
    return sent


def arrive_at_activity(page: Page, browsing: Browsing) -> None:
    page.wait_for_url(re.compile(r"/jobs/\?batch=batch_"))
    browsing.complaints.clear()  # that page has tests of its own


@pytest.mark.parametrize("scripted", [True, False])
def test_what_is_ticked_comes_as_a_batch(browsing: Browsing, scripted: bool) -> None:
    page = browsing.open(f"/hub/{SMALL}/", java_script_enabled=scripted)
    layer = 0 if scripted else 1
    for width in ("16k", "65k"):
        pick(page, f"layer_{layer}/width_{width}/average_l0_9").check()
    page.get_by_role("button", name="Download 2 SAEs" if scripted else "the ticked ones").click()
    arrive_at_activity(page, browsing)
    page.goto(f"/?search=layer_{layer}/")
    for row in page.get_by_role("row").filter(has_text="average_l0_9").all():
        expect(row).to_contain_text("Ready", timeout=SOON)
    page.goto(f"/hub/{SMALL}/")
    expect(page.get_by_role("link", name="In the library")).to_have_count(2 if scripted else 4)


def test_without_javascript_all_that_match_come(browsing: Browsing) -> None:
    page = browsing.open(f"/hub/{SMALL}/?layer=2", java_script_enabled=False)
    page.get_by_role("button", name="Download all 2 that match").click()
    arrive_at_activity(page, browsing)


def test_of_three_thousand_all_are_sent_as_all_and_fewer_by_name(browsing: Browsing) -> None:
    page = browsing.open(f"/hub/{MANY}/")
    sent = sent_by(page)
    page.get_by_role("button", name="Select all 3,000").click()
    expect_count(page, 3000)
    page.locator("[data-begin]").click()
    expect(page.get_by_role("heading", name="Not enough room")).to_be_visible(timeout=SOON)
    assert "every=1" in sent[0] and "where=" not in sent[0]
    assert violations(page) == []
    page.go_back()
    page.locator("input[name=where]").first.click()
    expect_count(page, 1)
    browsing.complaints.clear()  # the console notes the 507 itself


# --- how it looks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 820, 390])
@pytest.mark.parametrize("path", [f"/hub/{WHOLE}/", f"/hub/{WHOLE}/?view=table&layer=3"])
def test_both_views_are_accessible_and_fit(
    browsing: Browsing, path: str, width: int, theme: str
) -> None:
    page = browsing.open(path, width=width, theme=theme)
    page.wait_for_load_state("networkidle")
    page.locator("input[name=where]").first.click()
    expect_count(page, 1)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_the_layers_stay_while_the_matrix_scrolls(browsing: Browsing) -> None:
    page = browsing.open(f"/hub/{WHOLE}/", width=390)
    layer = page.get_by_role("button", name="12", exact=True)
    last = gemma(page, 12, "1m", 207)
    last.scroll_into_view_if_needed()
    expect(last).to_be_in_viewport()
    expect(layer).to_be_in_viewport()
    last.click()
    expect_count(page, 1)
