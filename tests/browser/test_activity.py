"""The page Activity in a browser: live rows, buttons by mouse and keyboard, batches."""

import json
import re
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.apps import App, manage
from tests.browser.conftest import SAELENS, Browsing, violations
from tests.hub import LocalHub, faults
from tests.jobs.test_download import is_body

pytestmark = [pytest.mark.processes, pytest.mark.browser]
SOON = 60_000  # milliseconds
WHERE = "blocks.3.hook_resid_post"
ROWS = """
import json
from datetime import timedelta
from django.utils import timezone
from saes import accounts
from saes.models import Batch, Job, Sae
owner, now = accounts.ensure_owner(), timezone.now()
batch = Batch.objects.create(id={batch!r}, name="many of them", created_by=owner)
for state, name, more in json.loads({rows!r}):
    failed = state in ("failed", "crashed", "cancelled")
    status = "error" if failed else "pending"
    sae = Sae.objects.create(name=name, source="huggingface", status=status)
    if failed or state == "done":
        more["ended_at"] = now
    if state == "running":
        more |= dict(lease="x", worker="elsewhere 1 1", started_at=now)
        more |= dict(heartbeat_at=now + timedelta(hours=1))  # no recovery takes it
    if state == "queued":  # no worker takes it
        more |= dict(wait_until=now + timedelta(hours=1), waits_for="hub", message="Rate limited")
    Job.objects.create(kind="download", sae=sae, state=state, created_by=owner, batch=batch, **more)
"""


class Scene:
    """Rows in the product's own database, in a batch of their own."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.batch = f"batch_{uuid.uuid4().hex[:12]}"

    def make(self, *rows: tuple[str, str]) -> "Scene":
        told = json.dumps([[state, name, {}] for state, name in rows])
        self.run(ROWS.format(batch=self.batch, rows=told))
        return self

    def run(self, script: str) -> None:
        done = manage("shell", "-c", script, env=self.app.env)
        assert done.returncode == 0, done.stderr

    def clear(self) -> None:
        self.run(
            f"from saes.models import Sae\nSae.objects.filter(jobs__batch={self.batch!r}).delete()"
        )

    @property
    def path(self) -> str:
        return f"/jobs/?batch={self.batch}"


@pytest.fixture
def scene(running_app: App) -> Iterator[Scene]:
    made = Scene(running_app)
    yield made
    made.clear()


def row(page: Page, name: str) -> Locator:
    return page.locator(".job").filter(has_text=name)


def section(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=re.compile(f"^{name}"))


EVERY_STATE = [
    (state, f"{state} one")
    for state in ("running", "paused", "queued", "done", "failed", "crashed", "cancelled")
]


def test_buttons_move_jobs_and_the_focus_stays(browsing: Browsing, scene: Scene) -> None:
    scene.make(("queued", "first"), ("queued", "second"), ("queued", "third"))
    page = browsing.open(scene.path)
    page.get_by_role("button", name="Pause second").focus()
    page.keyboard.press("Enter")
    expect(section(page, "Paused")).to_contain_text("second")
    expect(page.get_by_role("button", name="Resume second")).to_be_focused()
    expect(page.locator("#said")).to_have_text("Paused 1 job.")
    page.keyboard.press("Enter")  # a worker takes it at once, and finds nothing at its place
    expect(page.locator("#said")).to_have_text("Resumed 1 job.")
    expect(row(page, "second").get_by_role("button", name="Retry")).to_be_focused(timeout=SOON)
    page.get_by_role("button", name="To front third").click()
    expect(section(page, "Waiting").locator(".job").first).to_contain_text("third")
    page.get_by_role("button", name="Cancel first").click()
    expect(row(page, "first")).to_contain_text("Cancelled")
    page.get_by_role("button", name="Clear away first").click()
    expect(row(page, "first")).to_have_count(0)
    page.get_by_role("button", name="Retry failed").click()
    expect(page.locator("#said")).to_have_text("Started again: 1 job.")


def test_the_buttons_of_a_batch(browsing: Browsing, scene: Scene) -> None:
    scene.make(*EVERY_STATE)
    page = browsing.open(scene.path)
    page.get_by_role("button", name="Pause all").click()
    expect(section(page, "Paused").locator(".job")).to_have_count(3)
    page.get_by_role("link", name="Cancel all").click()
    dialog = page.get_by_role("dialog", name="Cancel all these jobs?")
    expect(dialog).to_be_visible()
    assert violations(page) == []
    dialog.get_by_role("link", name="Keep them").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("link", name="Cancel all").click()
    dialog.get_by_role("button", name=re.compile("^Cancel")).click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("link", name="Cancel all")).to_have_count(0)
    expect(page.locator("#said")).to_have_text("Cancelled 3 jobs.")
    page.get_by_role("button", name="Clear finished").click()
    expect(page.get_by_text("All of it was cleared away")).to_be_visible()


def test_a_real_download_is_live_paused_and_resumed(
    browsing: Browsing, repositories: LocalHub
) -> None:
    repositories.faults.add(is_body, faults.slow(1500), where="cdn", times=None)
    page = browsing.open("/jobs/")
    other = browsing.open("/hub/")
    other.get_by_label("Repository", exact=True).fill(SAELENS)
    other.get_by_role("button", name="Preview").click()
    other.get_by_role("button", name=f"Download {WHERE}").click()
    other.wait_for_url(re.compile("/saes/sae_"))
    sae_id = other.url.rstrip("/").rsplit("/", 1)[1]
    mine = page.locator(".job").filter(has=page.locator(f'a[href="/saes/{sae_id}/"]'))
    expect(mine).to_have_attribute("data-state", "running", timeout=SOON)  # it came by itself
    expect(mine).to_contain_text("Downloading", timeout=SOON)
    mine.get_by_role("button", name=re.compile("^Pause")).click()
    expect(mine).to_have_attribute("data-state", "paused")
    expect(other.get_by_text("Paused", exact=True).first).to_be_visible()
    repositories.faults.clear()
    other.get_by_role("button", name="Resume").click()
    expect(mine).to_have_attribute("data-state", "done", timeout=SOON)
    other.get_by_role("link", name="Delete").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(other.get_by_role("status").filter(has_text="Deleted ")).to_be_visible(timeout=SOON)


def test_without_javascript_all_is_cancelled_after_a_question(
    browsing: Browsing, scene: Scene
) -> None:
    scene.make(("queued", "first"), ("running", "second"))
    page = browsing.open(scene.path, java_script_enabled=False)
    page.get_by_role("button", name="Pause first").click()
    expect(section(page, "Paused")).to_contain_text("first")
    page.get_by_role("link", name="Cancel all").click()
    expect(page.get_by_role("heading", name="Cancel all these jobs?")).to_be_visible()
    page.get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.get_by_text("Cancelled 2 jobs.")).to_be_visible()
    expect(page).to_have_url(re.compile(f"{re.escape(scene.path)}$"))


def test_what_is_newer_is_not_overwritten(browsing: Browsing, scene: Scene) -> None:
    """An answer of the list that was under way while a row was told anew."""
    scene.make(("running", "the one"))
    page = browsing.open(scene.path)
    mine = row(page, "the one")
    newer = "row => { row.dataset.version = 99; row.querySelector('.name').textContent += '!' }"
    mine.evaluate(newer)
    with page.expect_response(re.compile("/jobs/")):
        page.evaluate("htmx.trigger('#activity', 'mistudio:refresh')")
    page.wait_for_load_state("networkidle")
    expect(mine).to_have_attribute("data-version", "99")
    expect(mine).to_contain_text("the one!")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("query", ["", "&state=failed", "&state=finished&kind=verify"])
def test_the_page_is_accessible_and_fits(
    browsing: Browsing, scene: Scene, query: str, width: int, theme: str
) -> None:
    scene.make(*EVERY_STATE)
    page = browsing.open(scene.path + query, width=width, theme=theme)
    page.wait_for_load_state("networkidle")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_role("heading", level=1).count() == 1
