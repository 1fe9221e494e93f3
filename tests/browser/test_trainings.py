"""Importing from a training run in a browser: some of its SAEs, seen until they are ready."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.apps import App
from tests.browser.conftest import Browsing, violations
from tests.browser.test_main_job import SOON
from tests.imports.test_picking import put_checkpoint
from tests.imports.test_trainings import GENERATIONS, run_of

pytestmark = [pytest.mark.processes, pytest.mark.browser]
BOTH = [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")]


@pytest.fixture
def run(running_app: App, request: pytest.FixtureRequest) -> Iterator[str]:
    """The id of a run with two steps, in the folder that is scanned. Each test has its own."""
    name = f"train_{abs(hash(request.node.name)) % 10**8}"
    folder = running_app.data_dir / "trainings" / name
    for step in (900, 5000):
        for place in ("layer_3_residual", "layer_3_mlp", "layer_7_residual"):
            put_checkpoint(folder / f"checkpoints/checkpoint_{step}/{place}")
    record = {
        "name": f"Run {name}", "dataset_ids": ["tiny"], "final_l0": 5, "final_loss": 0.25,
        "hyperparameters": GENERATIONS["mistudio_v2_topk"], "current_step": 5000,
        "total_steps": 5000,
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(record))
    yield name
    shutil.rmtree(folder)


def assert_fits(page: Page, width: int) -> None:
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "theme"), BOTH)
def test_some_of_a_run_are_chosen_imported_and_greyed_after(
    browsing: Browsing, run: str, width: int, theme: str
) -> None:
    page = browsing.open("/trainings/", width=width, theme=theme)
    assert_fits(page, width)
    page.get_by_role("link", name=f"Run {run}").click()
    begin = page.locator("[data-begin]")
    expect(begin).to_have_text("Import 3 SAEs")
    assert_fits(page, width)
    page.get_by_role("checkbox", name="Select L3-mlp").uncheck()
    expect(begin).to_have_text("Import 2 SAEs")
    expect(page.locator("[data-number=fetched]")).to_have_text("18 kB")
    page.get_by_role("button", name="Clear selection").click()
    expect(begin).to_be_disabled()
    page.get_by_role("button", name="Select all", exact=True).click()
    page.get_by_role("checkbox", name="Select L3-mlp").uncheck()
    begin.click()
    expect(page.get_by_text("2 SAEs are on their way.")).to_be_visible(timeout=SOON)
    expect(page.locator(".batch-counts").get_by_text("2", exact=True)).to_be_visible(timeout=SOON)
    page.goto(f"/trainings/{run}/")
    expect(page.get_by_role("checkbox", name="Select L")).to_have_count(1)
    expect(page.get_by_role("link", name=re.compile("^Imported"))).to_have_count(2)
    assert_fits(page, width)

    page.get_by_role("link", name=re.compile("Imported.*L7-residual")).click()
    expect(page.locator("[data-state=ready]")).to_be_visible(timeout=SOON)
    expect(page.get_by_role("heading", name=f"Run {run} (L7-residual)")).to_be_visible()
    training = page.get_by_role("region", name="Training")
    expect(training.get_by_text("5,000 of 5,000")).to_be_visible()
    training.get_by_text("Hyperparameters").click()
    expect(training.get_by_text("top_k_sparsity")).to_be_visible()
    assert_fits(page, width)


def test_another_step_is_chosen_by_keyboard(browsing: Browsing, run: str) -> None:
    page = browsing.open(f"/trainings/{run}/")
    page.get_by_label("Step", exact=True).select_option("900")
    page.get_by_role("button", name="Show").press("Enter")
    expect(page.get_by_role("heading", name="3 SAEs of step 900")).to_be_visible()
    page.get_by_role("checkbox", name="Select L3-residual").press(" ")
    expect(page.locator("[data-begin]")).to_have_text("Import 2 SAEs")


def test_without_javascript_the_ticked_ones_are_imported(browsing: Browsing, run: str) -> None:
    page = browsing.open(f"/trainings/{run}/", java_script_enabled=False)
    page.get_by_role("checkbox", name="Select L3-mlp").uncheck()
    page.get_by_role("checkbox", name="Select L7-residual").uncheck()
    page.get_by_label("Name").fill("By hand")
    page.get_by_role("button", name="Import the ticked ones").click()
    expect(page.get_by_text("1 SAE is on its way.")).to_be_visible()
    page.wait_for_load_state()  # a style sheet that is cut short leaves the other one's images
    page.goto("/?search=By+hand")
    expect(page.get_by_role("link", name="By hand (L3-residual)")).to_be_visible(timeout=SOON)


@pytest.mark.parametrize(("width", "theme"), BOTH)
def test_a_run_that_goes_on_says_so(
    browsing: Browsing, running_app: App, width: int, theme: str
) -> None:
    folder = running_app.data_dir / "trainings/train_going"
    run_of("mistudio_v2_topk", folder, status="running")
    page = browsing.open("/trainings/train_going/", width=width, theme=theme)
    expect(page.get_by_text("is running, not completed")).to_be_visible()
    expect(page.locator("[data-begin]")).to_have_count(0)
    assert_fits(page, width)
    shutil.rmtree(Path(folder))
