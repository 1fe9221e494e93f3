"""A real browser on the real product. Whatever the page's console complains of fails the test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    StorageState,
    expect,
    sync_playwright,
)

from tests.apps import App
from tests.browser.install_browser import find
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
GEMMA = "google/gemma-scope-2b-pt-res"
SAELENS = "someone/saes"
OLD = "local/mistudio"
Open = Callable[..., Page]
expect.set_options(timeout=20_000)  # five seconds, else: little where two suites share a machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # For one module: Playwright's event loop runs as long as it is open, and would stop asyncio.
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def repositories(app_hub: LocalHub) -> LocalHub:
    app_hub.add_repo(GEMMA, sample_files("gemma_scope_1_res"), card={"license": "cc-by-4.0"})
    app_hub.add_repo(SAELENS, sample_files("saelens_v6_standard"))
    app_hub.add_repo(OLD, sample_files("mistudio_v1_jumprelu"))
    app_hub.add_repo("someone/text", {"README.md": b"# no SAE", "model.bin": b"x"})
    app_hub.add_repo("someone/gated", sample_files("saelens_v6_standard"), gated="manual")
    return app_hub


@pytest.fixture(autouse=True)
def calm(app_hub: LocalHub) -> Iterator[None]:
    """No test leaves its troubles to the next one."""
    yield
    app_hub.faults.clear()


class Browsing:
    """Signed-in pages of one product; complaints of their consoles are collected."""

    def __init__(self, browser: Browser, app: App, cookies: StorageState) -> None:
        self.browser, self.app = browser, app
        self.complaints: list[str] = []
        self._contexts: list[BrowserContext] = []
        self._cookies = cookies

    def context(self, **options: object) -> BrowserContext:
        context = self.browser.new_context(base_url=self.app.url, **options)  # type: ignore[arg-type]
        self._contexts.append(context)
        return context

    def open(
        self, path: str = "/", *, width: int = 1280, theme: str = "light", **options: object
    ) -> Page:
        size = {"width": width, "height": 900}
        context = self.context(
            storage_state=self._cookies, viewport=size, color_scheme=theme, **options
        )
        page = context.new_page()
        page.on("console", self._note)
        page.on("response", self._note_failure)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(path)
        return page

    def _note(self, message: ConsoleMessage) -> None:
        # "Failed to load" does not say what: responses do.
        if message.type == "error" and not message.text.startswith("Failed to load"):
            self.complaints.append(message.text)

    def _note_failure(self, answer: Response) -> None:
        if answer.status >= 400:
            self.complaints.append(f"{answer.status} {answer.url}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture(scope="session")
def signed_in() -> list[StorageState]:
    """What is known of the one sign-in."""
    return []


@pytest.fixture(scope="module")
def cookies(browser: Browser, running_app: App, signed_in: list[StorageState]) -> StorageState:
    """Of somebody who followed a sign-in link."""
    if signed_in:
        return signed_in[0]
    context = browser.new_context()
    page = context.new_page()
    page.goto(running_app.new_sign_in_url())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(running_app.url + "/")
    signed_in.append(context.storage_state())
    context.close()
    return signed_in[0]


@pytest.fixture
def browsing(
    browser: Browser, running_app: App, repositories: LocalHub, cookies: StorageState
) -> Iterator[Browsing]:
    browsing = Browsing(browser, running_app, cookies)
    yield browsing
    browsing.close()
    assert browsing.complaints == [], "\n".join(browsing.complaints)


AXE = Path(__file__).parent / "vendor" / "axe.min.js"


def violations(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page as it is now."""
    page.evaluate(AXE.read_text("utf-8"))
    # Preloading would copy stylesheets into inline ones, which the policy of the pages forbids.
    options = "{resultTypes: ['violations'], preload: false}"
    found = page.evaluate(f"axe.run(document, {options})")["violations"]
    return [
        f"{it['id']}: {node['html'][:200]}"
        for it in found
        if it["impact"] in ("serious", "critical")
        for node in it["nodes"]
    ]
