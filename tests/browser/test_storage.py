"""The page Storage in a browser: look, repair, and what it says then."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.apps import App, manage
from tests.browser.conftest import Browsing, violations

pytestmark = [pytest.mark.processes, pytest.mark.browser]
NOBODY = "sae_00000000beef"
SOON = 60_000  # milliseconds


@pytest.fixture
def orphan(running_app: App) -> Iterator[Path]:
    # A download that another test has cancelled may have left a whole file that no row names yet.
    assert manage("sae_doctor", "--repair", env=running_app.env).returncode == 0
    folder = running_app.data_dir / "saes" / NOBODY / "native"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 5000)
    yield folder.parent
    shutil.rmtree(folder.parent, ignore_errors=True)


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_what_is_found_is_shown_explained_and_mended(
    browsing: Browsing, orphan: Path, width: int, theme: str
) -> None:
    page = browsing.open("/storage/", width=width, theme=theme)
    page.get_by_role("link", name="Look").click()
    expect(page.get_by_text(f"No SAE has the folder saes/{NOBODY} (1 file).")).to_be_visible(
        timeout=SOON
    )
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Repair …").press("Enter")
    dialog = page.get_by_role("dialog", name="Repair the data directory?")
    expect(dialog.get_by_text("Moved to the kept files")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert orphan.exists()
    page.get_by_role("button", name="Repair …").click()
    dialog.get_by_role("checkbox", name="Delete folders without an SAE").check()
    dialog.get_by_role("button", name="Repair").click()
    expect(page.get_by_text("Deleted.").first).to_be_visible(timeout=SOON)
    assert violations(page) == [] and not orphan.exists()
    page.get_by_role("link", name="Look").click()
    expect(page.get_by_text("All is well.")).to_be_visible(timeout=SOON)


def test_without_javascript_looking_and_repairing_work(browsing: Browsing, orphan: Path) -> None:
    page = browsing.open("/storage/", java_script_enabled=False)
    page.get_by_role("link", name="Look").click()
    expect(page.get_by_text("folder saes/sae_00000000beef")).to_be_visible(timeout=SOON)
    page.get_by_role("button", name="Repair …").click()
    dialog = page.get_by_role("dialog", name="Repair the data directory?")
    dialog.get_by_role("checkbox", name="Delete folders without an SAE").check()
    dialog.get_by_role("button", name="Repair").click()
    expect(page.get_by_text("Deleted.")).to_be_visible(timeout=SOON)
    assert not orphan.exists()
