"""Publishing in a browser: from an SAE's page to a verified commit, with a real worker."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.apps import App, manage
from tests.browser.conftest import SAELENS, Browsing, violations
from tests.browser.test_main_job import SOON, start_download
from tests.hub import LocalHub, upload_faults

pytestmark = [pytest.mark.processes, pytest.mark.browser]
TOKEN, TARGET = "hf_browser_writes_1234", "browser/published"
HOSTILE = b"""# <img src=//evil.example/x onerror=alert(1)> mine

[run](javascript:alert(1)) ![spy](https://evil.example/spy.png) <script>alert(1)</script>

| a very wide column | another very wide column | a third very wide column | and a fourth one |
|---|---|---|---|
| <i onclick=alert(1)>x</i> | 2 | 3 | 4 |
"""


@pytest.fixture(scope="module")
def made(running_app: App) -> Iterator[dict[str, str]]:
    """Where the SAE is; the next module finds a library without it."""
    found: dict[str, str] = {}
    yield found
    if found:
        sae_id = found["page"].strip("/").split("/")[1]
        assert manage("sae_delete", "--yes", sae_id, env=running_app.env).returncode == 0


@pytest.fixture
def sae_page(browsing: Browsing, made: dict[str, str]) -> str:
    """The address of a ready SAE, made once."""
    if not made:
        page = browsing.open()
        start_download(page, SAELENS, "blocks.3.hook_resid_post")
        expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
        made["page"] = page.url.removeprefix(browsing.app.url)
    return made["page"]


@pytest.fixture(autouse=True)
def target(app_hub: LocalHub, running_app: App) -> Iterator[None]:
    """A token that may write, and no repository yet; what was published is forgotten."""
    app_hub.add_token(TOKEN, "browser", "write")
    yield
    if app_hub.repos.get("model", TARGET):
        app_hub.repos.remove("model", TARGET)
    away = "from saes.models import Publication; Publication.objects.all().delete()"
    assert manage("shell", "-c", away, env=running_app.env).returncode == 0


def fill_in(page: Page, sae_page: str, *, seen: str = "As it is") -> None:
    page.goto(f"/publish/?sae={sae_page.strip('/').split('/')[1]}")
    page.get_by_label("Repository", exact=True).fill(TARGET)
    page.get_by_role("radio", name=re.compile(f"^{seen}")).check()
    page.get_by_label("License").select_option("mit")
    page.locator("#id_secret").fill(TOKEN)


def rehearse(page: Page, sae_page: str, **more: str) -> None:
    fill_in(page, sae_page, **more)
    page.get_by_role("button", name="Rehearse").click()
    expect(page.get_by_role("heading", name="What would happen")).to_be_focused(timeout=SOON)


def is_published(page: Page, hub: LocalHub) -> None:
    page.wait_for_url(re.compile(r"/publish/pub_\w+/$"))
    expect(page.get_by_text("read back and compared")).to_be_visible(timeout=SOON)
    expect(page.locator("main")).to_contain_text(hub.repo(TARGET).sha[:10])
    expect(page.get_by_role("region", name="Code that loads it")).to_contain_text(TARGET)


def test_an_sae_is_rehearsed_and_published_end_to_end(
    browsing: Browsing, sae_page: str, app_hub: LocalHub
) -> None:
    page = browsing.open(sae_page)
    page.get_by_role("link", name="Publish", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Publish to the Hub")
    rehearse(page, sae_page)
    told = page.get_by_role("region", name="What would happen")
    expect(told).to_contain_text(f"Only those who may see {TARGET} will see this.")
    expect(told.get_by_role("table").first).to_contain_text("sae_weights.safetensors")
    expect(page.locator("#id_secret")).to_have_value("")
    page.get_by_role("button", name="Publish", exact=True).click()
    is_published(page, app_hub)
    assert app_hub.repo(TARGET).private
    page.goto(sae_page)
    expect(page.get_by_role("region", name="Published")).to_contain_text(TARGET)
    page.goto("/jobs/?kind=publish")
    page.get_by_role("link", name=TARGET).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(TARGET)


def test_what_everybody_may_see_takes_its_name(
    browsing: Browsing, sae_page: str, app_hub: LocalHub
) -> None:
    page = browsing.open()
    rehearse(page, sae_page, seen="Public")
    expect(page.get_by_text("Everybody will be able to see this.")).to_be_visible()
    name = page.get_by_label(re.compile("^Type"))
    name.fill("browser/another")
    page.get_by_role("button", name="Publish for everybody").click()
    expect(page.get_by_text("this is not the name of the repository")).to_be_visible(timeout=SOON)
    expect(name).to_be_focused()
    browsing.complaints.clear()  # the console notes the 422
    name.fill(TARGET)
    page.get_by_role("button", name="Publish for everybody").click()
    is_published(page, app_hub)
    expect(page.get_by_text("everybody may see it", exact=True)).to_be_visible()
    assert not app_hub.repo(TARGET).private


def test_a_repository_that_moved_is_rehearsed_again(
    browsing: Browsing, sae_page: str, app_hub: LocalHub
) -> None:
    app_hub.add_repo(TARGET, {"README.md": b"# x"}, private=True)
    page = browsing.open()
    rehearse(page, sae_page)
    folder = page.get_by_label(re.compile("^Folder of")).input_value()
    app_hub.commit(TARGET, {f"{folder}/cfg.json": b"{}"})
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_text("Nothing was published.")).to_be_visible(timeout=SOON)
    expect(page.locator(".moved")).to_contain_text(f"{folder}/cfg.json")
    browsing.complaints.clear()
    page.get_by_role("button", name="Publish", exact=True).click()
    is_published(page, app_hub)


def test_another_form_is_rehearsed_again_first(browsing: Browsing, sae_page: str) -> None:
    page = browsing.open()
    rehearse(page, sae_page)
    publish = page.get_by_role("button", name="Publish", exact=True)
    expect(publish).to_be_enabled()
    page.get_by_label(re.compile("^Message")).fill("Another word")
    expect(publish).to_be_disabled()
    expect(page.get_by_text("You changed the form")).to_be_visible()
    page.get_by_role("button", name="Rehearse again").click()
    expect(page.get_by_text("You changed the form")).to_be_hidden(timeout=SOON)
    expect(page.get_by_role("region", name="What would happen")).to_contain_text("Another word")


def test_a_mistake_is_said_where_it_is(browsing: Browsing, sae_page: str) -> None:
    page = browsing.open()
    fill_in(page, sae_page)
    page.get_by_label(re.compile("^Folder of")).fill("../up")
    page.get_by_role("button", name="Rehearse").click()
    expect(page.get_by_text("Not rehearsed yet")).to_be_focused(timeout=SOON)
    expect(page.get_by_label(re.compile("^Folder of"))).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Repository", exact=True)).to_have_value(TARGET)
    expect(page.locator("#id_secret")).to_have_value("")
    browsing.complaints.clear()


def test_all_of_it_works_without_javascript(
    browsing: Browsing, sae_page: str, app_hub: LocalHub
) -> None:
    page = browsing.open("/publish/", java_script_enabled=False)
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Continue with the selected").click()
    fill_in(page, sae_page, seen="Public")
    page.get_by_role("button", name="Rehearse").click()
    expect(page.get_by_role("heading", name="What would happen")).to_be_visible(timeout=SOON)
    page.get_by_label(re.compile("^Type")).fill(TARGET)
    page.get_by_role("button", name="Publish for everybody").click()
    page.wait_for_url(re.compile(r"/publish/pub_\w+/$"))
    expect(page.get_by_text("read back and compared")).to_be_visible(timeout=SOON)  # by reloading


def test_it_tells_bytes_while_they_go_up_and_is_paused_and_resumed(
    browsing: Browsing, sae_page: str, app_hub: LocalHub
) -> None:
    app_hub.faults.add("", upload_faults.slow_upload(1500), method="PUT", times=None)
    page = browsing.open()
    rehearse(page, sae_page)
    page.get_by_role("button", name="Publish", exact=True).click()
    page.wait_for_url(re.compile(r"/publish/pub_\w+/$"))
    live = page.locator(".live")
    expect(live).to_contain_text(re.compile(r"\d+ of \d+ kB"), timeout=SOON)
    expect(live).to_contain_text("Uploading")
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(live).to_have_attribute("data-state", "paused", timeout=SOON)
    app_hub.faults.clear()
    expect(page.get_by_role("button", name="Resume")).to_be_focused()  # nobody loses their place
    page.get_by_role("button", name="Resume").click()
    is_published(page, app_hub)


def test_a_hostile_card_only_shows_itself(
    browsing: Browsing, sae_page: str, app_hub: LocalHub
) -> None:
    app_hub.add_repo(TARGET, {"README.md": HOSTILE}, private=True)
    page = browsing.open()
    left: list[str] = []
    page.on("dialog", lambda dialog: left.append(dialog.message))
    page.on("request", lambda it: left.append(it.url) if "evil" in it.url else None)
    rehearse(page, sae_page)
    for view in ("Source", "Changes", "Rendered"):
        page.get_by_role("radio", name=view).check(force=True)
        expect(page.locator(f'[data-view="{view.lower()}"]')).to_be_visible()
    assert page.locator(".readme :is(script, img, i, iframe)").count() == 0
    assert left == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_are_accessible_and_fit(
    browsing: Browsing, sae_page: str, app_hub: LocalHub, theme: str
) -> None:
    app_hub.add_repo(TARGET, {"README.md": HOSTILE})
    page = browsing.open("/publish/", theme=theme)
    checked(page)
    page.goto("/publish/history/")
    checked(page)
    rehearse(page, sae_page)
    for view in ("Source", "Changes", "Rendered"):
        page.get_by_role("radio", name=view).check(force=True)
        checked(page)
    page.get_by_label(re.compile("^Type")).fill(TARGET)
    page.get_by_role("button", name="Publish for everybody").click()
    is_published(page, app_hub)
    checked(page)
    page.goto("/publish/history/")
    checked(page)


def checked(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert violations(page) == [], width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.get_by_role("heading", level=1).count() == 1


def test_all_of_a_page_are_chosen_at_once(browsing: Browsing, sae_page: str) -> None:
    page = browsing.open("/publish/")
    boxes = page.locator("input[name=sae]")
    page.get_by_label("Select all of this page").check()
    assert all(box.is_checked() for box in boxes.all()) and boxes.count() > 0
    go_on = page.get_by_role("button", name=f"Continue with {boxes.count()} selected")
    expect(go_on).to_be_visible()
    page.get_by_role("searchbox").fill("nothing is called like this")
    expect(page.get_by_text("No SAE matches")).to_be_visible(timeout=SOON)
    page.get_by_role("searchbox").fill("")
    expect(go_on).to_be_visible(timeout=SOON)
    page.get_by_label("Select all of this page").check()
    page.get_by_label("Select all of this page").uncheck()
    assert not any(box.is_checked() for box in boxes.all())
