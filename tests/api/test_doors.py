"""Sessions, their CSRF tokens and Bearer tokens: who is let in, and who is not."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from saes import roles
from saes.api.main import api as the_api
from saes.models import Sae
from tests.api.conftest import BASE, ApiClient, client_of, person
from tests.api.made import parsed, ready_sae

BACKEND = "django.contrib.auth.backends.ModelBackend"
SITE = "http://testserver"
# All that the document has; test_schemathesis names each of them.
UNSAFE = [
    (method, path.removeprefix(BASE).format(sae_id="{sae}", job_id="job_1"))
    for path, methods in the_api.get_openapi_schema()["paths"].items()
    for method in methods
    if method != "get"
]
FORMS = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]


@pytest.fixture
def sae(owner: User) -> Sae:
    return ready_sae(owner)


class Browser:
    """A session, with the CSRF token that its pages hold."""

    def __init__(self, user: User) -> None:
        self.client = Client(enforce_csrf_checks=True)
        self.client.force_login(user, backend=BACKEND)
        self.token = str(self.client.get("/").context["csrf_token"])

    def ask(self, method: str, path: str, body: str = "{}", **more: Any) -> Any:
        kind = more.pop("kind", "application/json")
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        request = getattr(self.client, method)
        return request(BASE + path, body, content_type=kind, headers=headers)


@pytest.fixture
def browser(owner: User) -> Browser:
    return Browser(owner)


@pytest.mark.parametrize(("method", "path"), UNSAFE)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_csrftoken": "wrong"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"referer": "https://evil.example/page"},
    ],
)
def test_a_session_without_its_csrf_token_changes_nothing(
    browser: Browser, sae: Sae, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = browser.ask(method, path.format(sae=sae.id), **headers)
    assert (answer.status_code, parsed(answer)["code"]) == (403, "csrf_failed")
    assert Sae.objects.filter(id=sae.id).exists()


def test_a_session_with_its_token_from_elsewhere_changes_nothing(
    browser: Browser, sae: Sae
) -> None:
    for origin in ("https://evil.example", "null", "http://testserver.evil.example", SITE + ":81"):
        answer = browser.ask("delete", f"/saes/{sae.id}", x_csrftoken=browser.token, origin=origin)
        assert (answer.status_code, parsed(answer)["code"]) == (403, "csrf_failed"), origin
    assert Sae.objects.filter(id=sae.id).exists()


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(("method", "path"), UNSAFE)
def test_a_form_of_another_site_is_refused(
    browser: Browser, sae: Sae, kind: str, method: str, path: str
) -> None:
    body = f"csrfmiddlewaretoken={browser.token}&sae_ids={sae.id}"
    for headers in ({}, {"x_csrftoken": browser.token}):
        answer = browser.ask(method, path.format(sae=sae.id), body, kind=kind, **headers)
        assert (answer.status_code, parsed(answer)["code"]) == (403, "csrf_failed")
    assert Sae.objects.filter(id=sae.id).exists()


def test_a_form_that_is_broken_is_refused_without_reading_it(browser: Browser) -> None:
    answer = browser.ask("post", "/saes/delete", "x" * 2**21, kind=FORMS[1])
    assert (answer.status_code, parsed(answer)["code"]) == (403, "csrf_failed")


def test_a_session_with_its_token_may_do_what_its_user_may(browser: Browser, sae: Sae) -> None:
    path = f"/saes/{sae.id}"
    changed = browser.ask("patch", path, '{"notes": "mine"}', x_csrftoken=browser.token)
    assert (changed.status_code, changed.json()["notes"]) == (200, "mine")
    gone = browser.ask("delete", path, "", x_csrftoken=browser.token, origin=SITE)
    assert (gone.status_code, gone.json()["deleted"]) == (200, True)


def test_a_session_may_read(browser: Browser, sae: Sae) -> None:
    answer = browser.client.get(f"{BASE}/saes/{sae.id}", headers={"origin": "https://evil.example"})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer


def test_a_token_needs_no_csrf_token(api: ApiClient, sae: Sae) -> None:
    client = Client(enforce_csrf_checks=True)
    answer = client.delete(
        f"{BASE}/saes/{sae.id}",
        headers={"authorization": f"bearer {api.token}", "origin": "https://evil.example"},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "header",
    ["Bearer wrong", "Bearer ", "Bearer", "", "Basic b3duZXI6eA==", "mis_x", "Bearer \xe9"],
)
def test_a_bad_token_never_falls_back_to_the_session(browser: Browser, header: str) -> None:
    answer = browser.client.get(f"{BASE}/saes", headers={"authorization": header})
    assert (answer.status_code, parsed(answer)["code"]) == (401, "bad_api_token")
    assert answer["WWW-Authenticate"] == "Bearer"


def test_a_token_outranks_the_session(browser: Browser, viewer: User, sae: Sae) -> None:
    token = client_of(viewer).token
    answer = browser.ask(
        "delete", f"/saes/{sae.id}", authorization=f"Bearer {token}", x_csrftoken=browser.token
    )
    assert (answer.status_code, parsed(answer)["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "path", ["/saes", "/jobs", "/openapi.json", "/nothing", "/saes/hf/preview"]
)
def test_nobody_gets_nothing(db: None, path: str) -> None:
    for method in ("get", "post", "patch", "delete", "put", "options"):
        answer = getattr(Client(), method)(BASE + path)
        assert (answer.status_code, parsed(answer)["code"]) == (401, "not_signed_in")


def test_nobody_is_led_from_the_documentation_to_the_sign_in(db: None) -> None:
    answer = Client().get(f"{BASE}/docs?x=//evil")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/") and "next=/api/v1/docs" in answer["Location"]


def test_a_user_who_was_switched_off_is_let_in_no_more(editor: User) -> None:
    api, browser = client_of(editor), Browser(editor)
    User.objects.filter(pk=editor.pk).update(is_active=False)
    assert api.get("/saes")["code"] == "bad_api_token"
    assert browser.client.get(f"{BASE}/saes").status_code == 401


def test_reading_changes_nothing(browser: Browser, sae: Sae) -> None:
    before = Sae.objects.values().get(id=sae.id)
    for path in ("delete", "download", "hf/preview", sae.id, f"{sae.id}?delete_files=true"):
        browser.client.get(f"{BASE}/saes/{path}", headers={"x-http-method-override": "DELETE"})
    for act in ("cancel", "pause", "resume", "retry"):
        assert browser.client.get(f"{BASE}/jobs/job_1/{act}").status_code == 405
    assert Sae.objects.values().get(id=sae.id) == before


@pytest.mark.parametrize(("method", "path"), [it for it in UNSAFE if "preview" not in it[1]])
def test_viewers_and_reading_tokens_change_nothing(
    owner: User, viewer: User, sae: Sae, method: str, path: str
) -> None:
    for api in (client_of(viewer), client_of(owner, "read"), client_of(person("neo", ""))):
        assert api(method, path.format(sae=sae.id), {})["code"] == "forbidden"
        assert api.status == 403
        assert api.get(f"/saes/{sae.id}")["id"] == sae.id
    assert Sae.objects.filter(id=sae.id).exists()


def test_roles_are_read_at_each_request(editor: User, sae: Sae) -> None:
    api = client_of(editor)
    assert api.patch(f"/saes/{sae.id}", {"notes": "one"})["notes"] == "one"
    editor.groups.clear()
    assert api.patch(f"/saes/{sae.id}", {"notes": "two"})["code"] == "forbidden"
    editor.groups.add(Group.objects.get(name=roles.EDITOR))
    assert api.patch(f"/saes/{sae.id}", {"notes": "three"})["notes"] == "three"
