"""Rows S28 to S30 in a browser: hostile texts open no dialog and ask no other server."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Dialog, Page, Request, expect

from tests.apps import App, manage
from tests.attacks.markup import ATTACKS
from tests.browser.conftest import SAELENS, Browsing
from tests.browser.test_main_job import SOON, start_download
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

pytestmark = [pytest.mark.processes, pytest.mark.browser]
EVERYTHING = " ".join(ATTACKS)
HOSTILE = "evil/saes"
ALL_HARMLESS = """[...document.querySelectorAll('*')].every(it =>
    [...it.attributes].every(at => !/^on|^data-hx|^srcdoc|^style/.test(at.name)))"""
# Texts that no page takes: what a job, an error or a repository would write.
DRESS = """
from django.contrib.auth.models import User
from django.utils import timezone
from saes import api_tokens, vault
from saes.hub import Identity
from saes.models import HubToken, Job, Sae
attacks = {attacks!r}
text = " ".join(attacks)
owner = User.objects.get(username="owner")
api_tokens.create(owner, attacks[0])
told = Identity(attacks[0], "fineGrained", {{it: it for it in attacks}}).to_json()
told["scopes"] = [{{"kind": it, "name": it, "permissions": attacks}} for it in attacks]
token = vault.keep(owner, "hf_canary_of_hostile", attacks[0])
HubToken.objects.filter(id=token.id).update(
    identity=told, tested_at=timezone.now(), test_error=text[:500])
rows = [
    Sae(name=it, description=text, notes=text, tags=[it[:40]], source="huggingface",
        hf_repo_id=it, hf_filepath=text[:500], status="error", error_code="x", error_message=text,
        error_solution=text, model_name=it, architecture=it[:40], hook_name=it, format="saelens",
        facts={{it: {{"value": it, "origin": "file"}}}}, created_by=owner)
    for it in attacks
]
for sae in Sae.objects.bulk_create(rows):
    Job.objects.create(kind="download", sae=sae, state="crashed", message=sae.name, worker="x",
        file_name=text[:700], traceback=text, error_message=text, created_by=owner)
print("id", rows[0].id)
"""


@pytest.fixture(scope="module")
def dressed(running_app: App, app_hub: LocalHub) -> Iterator[str]:
    """The id of one of the hostile SAEs in the library; a hostile repository is on the hub, too."""
    files = {
        name.replace("blocks.3", f"{attack.replace('/', '')}.3"): body
        for attack in ATTACKS
        for name, body in sample_files("saelens_v6_standard").items()
    }
    readme = f"# {EVERYTHING}\n\n{EVERYTHING}\n".encode()
    card = {"license": ATTACKS[0], "base_model": ATTACKS[2]}
    app_hub.add_token("hf_canary_of_hostile", "mallory")
    app_hub.add_repo(HOSTILE, {**files, "README.md": readme}, card=card)
    done = manage("shell", "-c", DRESS.format(attacks=ATTACKS), env=running_app.env)
    assert done.returncode == 0, done.stderr
    yield done.stdout.split()[-1]
    away = "from saes.models import HubToken, Sae; HubToken.objects.all().delete(); "
    away += "Sae.objects.filter(error_code='x').delete()"
    assert manage("shell", "-c", away, env=running_app.env).returncode == 0


@pytest.fixture
def page(browsing: Browsing, running_app: App, dressed: str) -> Iterator[Page]:
    """Notes what a text that comes to life would do; the console's complaints are noted anyway."""
    page = browsing.open("/")
    done: list[str] = []

    def refuse(dialog: Dialog) -> None:
        done.append(dialog.message)
        dialog.dismiss()

    def note(asked: Request) -> None:
        if not asked.url.startswith((running_app.url, "blob:")):
            done.append(asked.url)

    page.on("dialog", refuse)
    page.on("request", note)
    page.on("popup", lambda popup: done.append(popup.url))
    yield page
    assert done == []


def read_on(page: Page) -> None:
    """Everything that a page does by itself, and what hovering and pressing keys wakes."""
    page.wait_for_load_state("networkidle")
    for part in page.locator("main").locator("h1, td, code, dd").locator("visible=true").all()[:8]:
        part.hover(force=True)
    page.keyboard.press("Tab")
    assert page.locator("main script, main iframe, main base, main object, main style").count() == 0
    assert page.evaluate(ALL_HARMLESS)


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/", ATTACKS[0]), ("/saes/ID/", ATTACKS[0]), ("/saes/ID/delete/", ATTACKS[0]),
     ("/storage/", "Storage"), (f"/hub/{HOSTILE}/", "hook_resid_post"),
     ("/account/tokens/", ATTACKS[0]), ("/hub/tokens/", ATTACKS[0]),
     (f"/hub/?repo={ATTACKS[2]}", "Hub"), (f"/?search={ATTACKS[0]}", "Library")],
)  # fmt: skip
def test_s28_a_page_of_hostile_texts_only_shows_them(
    page: Page, dressed: str, path: str, shown: str
) -> None:
    page.goto(path.replace("ID", dressed))
    read_on(page)
    expect(page.locator("body")).to_contain_text(shown)


def test_s28_the_admin_and_the_documentation_likewise(page: Page, dressed: str) -> None:
    for path in ("/admin/", "/admin/saes/sae/", f"/admin/saes/sae/{dressed}/change/",
                 f"/admin/saes/sae/{dressed}/delete/", "/admin/saes/job/",
                 "/admin/saes/apitoken/", "/admin/saes/hubtoken/", "/api/v1/docs"):  # fmt: skip
        page.goto(path)
        page.wait_for_load_state("networkidle")


def test_s28_s29_what_a_user_types_comes_back_by_socket_and_by_htmx_as_text(
    page: Page, running_app: App
) -> None:
    start_download(page, SAELENS, "blocks.3.hook_resid_post")
    expect(page.get_by_text("The conversion is exact")).to_be_visible(timeout=SOON)
    sae_id = page.url.rstrip("/").rpartition("/")[2]
    rows = f"from saes.models import Sae; rows = Sae.objects.filter(id={sae_id!r})"
    script = (
        f"{rows}\ntext = {EVERYTHING!r}\n"
        "rows.update(name=text[:200], notes=text, status='error', error_code='x',"
        " error_message=text, error_solution=text)\n"
        f"from saes.recorder import nudge; nudge({sae_id!r})"
    )
    assert manage("shell", "-c", script, env=running_app.env).returncode == 0
    live = page.locator(".live").first
    expect(live).to_contain_text("<img src=//evil.example", timeout=SOON)  # by the socket
    read_on(page)
    page.reload()
    expect(live).to_contain_text("<img src=//evil.example")
    read_on(page)
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("<img src=//evil.example")
    away = manage("shell", "-c", f"{rows}; rows.delete()", env=running_app.env)
    assert away.returncode == 0, away.stderr


def test_the_browser_notes_what_would_come_to_life(browsing: Browsing) -> None:
    page = browsing.open("/")
    with page.expect_console_message(lambda said: "Policy" in said.text):
        page.evaluate("document.body.innerHTML = '<p onclick=alert(1)>x</p>'")
    browsing.complaints.clear()
