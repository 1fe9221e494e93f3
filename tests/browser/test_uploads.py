"""Uploads in a browser: dropped, chosen, as a folder, as a zip; with a bar that never goes back."""

import base64
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from tests.apps import App, wait_for
from tests.browser.conftest import Browsing, violations
from tests.fixtures import write_saelens
from tests.imports.test_archive import zipped

pytestmark = [pytest.mark.processes, pytest.mark.browser]
SOON = 60_000  # milliseconds
LARGE = np.random.default_rng(1).bytes(20_000_000)  # three pieces
SEEN = """
setInterval(() => {
  const seen = JSON.parse(sessionStorage.getItem("seen") ?? "[]");
  for (const bar of document.querySelectorAll("#sending progress"))
    sessionStorage.setItem("seen", JSON.stringify([...seen, bar.value]));
}, 15);
"""
DROP = """
(files) => {
  const carried = new DataTransfer();
  for (const [name, content] of files)
    carried.items.add(new File([Uint8Array.from(atob(content), (it) => it.charCodeAt(0))], name));
  const drop = document.querySelector("[data-drop]");
  for (const kind of ["dragover", "drop"])
    drop.dispatchEvent(new DragEvent(kind, {
      dataTransfer: carried, bubbles: true, cancelable: true,
    }));
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two SAEs, and something large beside them."""
    for layer in (5, 6):
        write_saelens(tmp_path / "mine" / f"layer_{layer}")
    (tmp_path / "mine" / "more.bin").write_bytes(LARGE)
    return tmp_path / "mine"


@pytest.fixture
def archive(folder: Path) -> Path:
    files = [path for path in folder.rglob("*") if path.is_file()]
    content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return zipped(folder.parent / "saes.zip", content)


def slow_down(page: Page) -> None:
    """So that the bar can be seen on its way."""

    def later(route: Route) -> None:
        time.sleep(0.3)
        route.continue_()

    page.route("**/piece/**", later)
    page.add_init_script(SEEN)
    page.reload()


def seen(page: Page) -> list[float]:
    return [float(it) for it in page.evaluate('JSON.parse(sessionStorage.getItem("seen"))')]


def assert_moved_on(values: list[float]) -> None:
    assert values == sorted(values)
    assert len([it for it in set(values) if 0 < it < 100]) >= 2


def ready_of(page: Page, count: int) -> None:
    """Import all that is offered, and wait until it is in the library."""
    page.get_by_role("button", name=f"Select all {count}").click()
    page.get_by_role("button", name=f"Import {count} SAE").click()
    if count > 1:
        page.wait_for_url(re.compile(r"/jobs/\?batch="))
        expect(page.get_by_text("Done", exact=True)).to_have_count(count, timeout=SOON)
    else:
        page.wait_for_url(re.compile(r"/saes/sae_"))
        expect(page.locator("h1")).to_be_visible()
        expect(page.get_by_text("Ready", exact=True).first).to_be_visible(timeout=SOON)


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_a_zip_that_is_chosen_is_sent_looked_into_and_imported(
    browsing: Browsing, archive: Path, width: int, theme: str
) -> None:
    page = browsing.open("/import/uploads/", width=width, theme=theme)
    assert violations(page) == []
    slow_down(page)
    page.locator("#id_files").set_input_files(archive)
    expect(page.get_by_role("progressbar", name="Upload of saes.zip")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_url(re.compile(r"/import/uploads/up_"), timeout=SOON)
    assert_moved_on(seen(page))
    expect(page.get_by_role("heading", name="saes.zip")).to_be_visible()
    expect(page.get_by_text("layer_5", exact=True)).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ready_of(page, 2)


def test_files_that_are_dropped_are_one_upload(browsing: Browsing, folder: Path) -> None:
    page = browsing.open("/import/uploads/")
    slow_down(page)
    files = [*(folder / "layer_5").iterdir(), folder / "more.bin"]
    page.evaluate(DROP, [[it.name, base64.b64encode(it.read_bytes()).decode()] for it in files])
    expect(page.get_by_role("progressbar", name="Upload of 3 files")).to_be_visible()
    page.wait_for_url(re.compile(r"/import/uploads/up_"), timeout=SOON)
    assert_moved_on(seen(page))
    expect(page.get_by_role("checkbox", name="Select .", exact=True)).to_be_checked()
    ready_of(page, 1)


def test_a_zip_that_is_dropped_is_an_upload_of_its_own(browsing: Browsing, folder: Path) -> None:
    small = zipped(folder.parent / "a.zip", {"cfg.json": b"{}"})
    page = browsing.open("/import/uploads/")
    page.evaluate(DROP, [
        [name, base64.b64encode(small.read_bytes()).decode()] for name in ("a.zip", "b.zip")
    ])  # fmt: skip
    expect(page.get_by_role("link", name="Look into it")).to_have_count(2, timeout=SOON)
    page.get_by_role("link", name="Look into it").first.click()
    expect(page.get_by_text("No SAE was found here")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("Discarded the upload")).to_be_visible()
    assert violations(page) == []


def test_a_folder_keeps_its_paths(browsing: Browsing, folder: Path) -> None:
    page = browsing.open("/import/uploads/")
    page.locator("#id_folder").set_input_files(folder)
    page.wait_for_url(re.compile(r"/import/uploads/up_"), timeout=SOON)
    expect(page.get_by_role("heading", name="mine")).to_be_visible()
    expect(page.get_by_text("mine/layer_6", exact=True)).to_be_visible()
    page.get_by_role("button", name="Discard").click()


def test_a_broken_connection_costs_a_piece_and_cancel_removes_all(
    browsing: Browsing, archive: Path, running_app: App
) -> None:
    page = browsing.open("/import/uploads/")
    asked: list[str] = []

    def broken(route: Route) -> None:
        asked.append(route.request.url.rpartition("=")[2])
        if len(asked) in (2, 3):
            route.abort("connectionreset")
        elif len(asked) < 5:
            route.continue_()  # the next ones are never answered

    page.route("**/piece/**", broken)
    page.locator("#id_files").set_input_files(archive)
    bar = page.get_by_role("progressbar", name="Upload of saes.zip")
    while len(asked) < 5:  # the test's own time limit is that of the retries
        page.wait_for_timeout(50)
    piece = str(8 << 20)
    assert asked[:4] == ["0", piece, piece, piece] and asked[4] == str(16 << 20)
    expect(bar).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(bar).to_be_hidden()
    uploads = running_app.data_dir / "uploads"
    wait_for(lambda: not list(uploads.rglob("saes.zip")))


def test_what_the_server_refuses_is_said_and_can_be_tried_again(
    browsing: Browsing, tmp_path: Path
) -> None:
    (tmp_path / "CON").write_bytes(b"x")
    page = browsing.open("/import/uploads/")
    page.locator("#id_files").set_input_files(tmp_path / "CON")
    expect(page.locator("#sending [data-problem]")).to_contain_text(
        "The file name 'CON' is refused"
    )
    assert violations(page) == []
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    assert [it for it in browsing.complaints if not it.startswith("422 ")] == []
    browsing.complaints.clear()


def test_without_javascript_the_form_sends_its_files(browsing: Browsing, folder: Path) -> None:
    page = browsing.open("/import/uploads/", java_script_enabled=False)
    page.get_by_label("Files, or one zip archive").set_input_files(
        [*(folder / "layer_5").iterdir(), folder / "more.bin"]
    )
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url(re.compile(r"/import/uploads/up_"), timeout=SOON)
    page.get_by_role("button", name="Import the ticked ones").click()
    page.wait_for_url(re.compile(r"/saes/sae_"))
    shutil.rmtree(folder)
