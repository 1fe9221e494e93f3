"""What stands before every page: sign-in, methods, CSRF, the Host header, security headers."""

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils.regex_helper import normalize

from saes import accounts
from saes.models import Sae
from tests.views.conftest import signed_in

pytestmark = pytest.mark.django_db
GET = {
    "saes:list": 0, "saes:detail": 1, "saes:card": 1, "saes:hub": 0, "saes:repo": 2,
    "saes:header": 2, "saes:storage": 0, "saes:formats": 1, "saes:look": 0, "saes:jobs": 0,
    "saes:job-row": 1, "saes:cancel-jobs": 0, "saes:uploads": 0, "saes:upload": 1,
}  # fmt: skip
POST = {
    "saes:edit": 1, "saes:facts": 1, "saes:cancel": 1, "saes:retry": 1, "saes:download": 0,
    "saes:forget-token": 0, "saes:remove-kept": 1, "saes:prepare": 1, "saes:batch": 2,
    "sign-out": 0, "saes:repair": 0, "saes:verify-all": 0, "saes:remove-source": 1,
    "saes:pause": 1, "saes:resume": 1, "saes:steer-jobs": 1, "saes:announce-upload": 0,
    "saes:send-upload": 1, "saes:upload-piece": 1, "saes:import-upload": 1,
    "saes:discard-upload": 1, "saes:test-hub-token": 1, "saes:usual-hub-token": 1,
}  # fmt: skip
BOTH = {
    "saes:delete": 1, "saes:hub": 0, "saes:tokens": 0, "saes:revoke-token": 1, "sign-in": 0,
    "sign-in-link": 1, "saes:hub-tokens": 0, "saes:remove-hub-token": 1,
}  # fmt: skip
NUMBERED = {
    "saes:revoke-token", "saes:remove-hub-token", "saes:test-hub-token", "saes:usual-hub-token",
}  # fmt: skip
OPEN = re.compile(r"/healthz|/sign-in/.*")


def address(name: str, count: int, word: str = "x") -> str:
    words = ["1" if name in NUMBERED else word] * count
    return reverse(name, args=words)


def everything(patterns: list[URLPattern | URLResolver], start: str = "/") -> Iterator[str]:
    """An address for every pattern of the URLconf."""
    for it in patterns:
        for text, names in normalize(it.pattern.regex.pattern):
            path = start + text % dict.fromkeys(names, "1")
            if isinstance(it, URLResolver):
                yield from everything(it.url_patterns, path)
            else:
                yield path


EVERYTHING = sorted(set(everything(get_resolver().url_patterns)))


def test_the_walk_sees_admin_dashboard_and_pages() -> None:
    assert {"/", "/saes/1/delete/", "/admin/saes/job/", "/hub/1/1/header/"} <= set(EVERYTHING)
    assert [path for path in EVERYTHING if "django_rq" in path and "requeue" in path]


@pytest.mark.parametrize("method", ["get", "post", "head", "put", "delete", "options", "patch"])
def test_an_anonymous_visitor_gets_nothing_but_the_door(method: str) -> None:
    client = Client()
    for path in EVERYTHING:
        answer = getattr(client, method)(path)
        if OPEN.fullmatch(path):
            assert answer.status_code in (200, 405, 410), path
        elif path.startswith("/api/") and path != "/api/v1/docs":
            assert answer.status_code == 401, path
            assert answer["Content-Type"].startswith("application/json"), path
        else:
            assert answer.status_code == 302, path
            door = r"(/admin/login|/sign-in)/(\?next=.*)?"
            assert re.fullmatch(door, answer["Location"]), path


def test_the_admin_is_reached_by_signing_in_once(owner: User) -> None:
    owner.set_password("a long enough secret")
    owner.save()
    client = Client()
    door = client.get("/admin/", follow=True)
    assert door.redirect_chain[-1][0].startswith("/sign-in/")
    form = {"username": "owner", "password": "a long enough secret"}
    answer = client.post("/sign-in/", {**form, "next": door.context["next"]}, follow=True)
    assert answer.request["PATH_INFO"] == "/admin/"
    assert "Site administration" in answer.content.decode()


def test_the_admin_and_the_dashboard_are_for_staff_only(db: None) -> None:
    client = signed_in(User.objects.create_user("visitor"))
    for path in EVERYTHING:
        if path.startswith("/admin/") and path != "/admin/login/":
            for method in ("get", "post"):
                status = getattr(client, method)(path).status_code
                assert status in (302, 401, 403, 404), path


@pytest.mark.parametrize("path", ["/saes/x/y/z/", "/.env", "/admin.php", "/data/secret.key"])
def test_an_unknown_address_says_nothing_to_an_anonymous_visitor(path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 404
    assert "Sign out" not in answer.content.decode()


@pytest.mark.parametrize("name", sorted(GET.keys() - BOTH.keys()))
def test_pages_that_only_show_take_no_post(client: Client, name: str) -> None:
    assert client.post(address(name, GET[name])).status_code == 405


@pytest.mark.parametrize("name", POST)
def test_verbs_take_no_get(client: Client, sae: Sae, name: str) -> None:
    assert client.get(address(name, POST[name], sae.id)).status_code == 405
    assert Sae.objects.filter(id=sae.id).exists()


@pytest.mark.parametrize("name", [*BOTH, *POST])
def test_a_post_without_the_forms_token_is_forbidden(owner: User, sae: Sae, name: str) -> None:
    client = signed_in(owner, enforce_csrf_checks=True)
    path = address(name, (BOTH | POST)[name], sae.id)
    answer = client.post(path, {"name": "x"})
    assert answer.status_code == 403
    assert "Nothing was changed" in answer.content.decode()
    assert Sae.objects.filter(id=sae.id).exists()


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json", "multipart/form-data; boundary=x"]
)
def test_no_content_type_gets_round_the_forms_token(owner: User, sae: Sae, kind: str) -> None:
    client = signed_in(owner, enforce_csrf_checks=True)
    url = reverse("saes:delete", args=[sae.id])
    origin = {"origin": "http://evil.example"}
    assert client.post(url, "{}", content_type=kind, headers=origin).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "*"]
)
@pytest.mark.parametrize("path", ["/", "/sign-in/", "/healthz", "/admin/"])
def test_a_foreign_host_header_is_refused(client: Client, host: str, path: str) -> None:
    answer = client.get(path, headers={"host": host})
    assert answer.status_code == 400
    if host:
        assert host not in answer.content.decode()


def test_a_forwarded_host_is_not_believed(client: Client) -> None:
    answer = Client().get("/", headers={"x-forwarded-host": "evil.example"})
    assert answer["Location"] == "/sign-in/?next=/"


def pages(client: Client, sae: Sae) -> Iterator[tuple[str, HttpResponse]]:
    """Every kind of page there is without the Hub."""
    for path in (
        "/", "/?search=nothing", f"/saes/{sae.id}/", f"/saes/{sae.id}/card/",
        f"/saes/{sae.id}/delete/", "/hub/", "/hub/--/x/", "/hub/google/gemma-scope-2b-pt-res/",
        "/storage/", "/jobs/", "/jobs/cancel-all/", "/account/tokens/", "/hub/tokens/", "/sign-in/",
        "/healthz", "/nowhere/", "/saes/none/", "/admin/", "/admin/saes/job/",
    ):  # fmt: skip
        yield path, client.get(path)  # type: ignore[misc]
    yield "400", client.get("/", headers={"host": "evil.example"})  # type: ignore[misc]
    yield "405", client.post("/storage/")  # type: ignore[misc]
    yield "410", Client().get("/sign-in/forged/")  # type: ignore[misc]
    strict = Client(enforce_csrf_checks=True)
    yield "403", strict.post("/sign-in/")  # type: ignore[misc]


def test_every_page_carries_the_security_headers(client: Client, sae: Sae) -> None:
    for path, answer in pages(client, sae):
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy, path
        assert "frame-ancestors 'none'" in policy, path
        assert "unsafe" not in policy and "*" not in policy, path
        assert answer["X-Content-Type-Options"] == "nosniff", path
        assert answer["Referrer-Policy"] == "same-origin", path


def test_the_documentation_may_show_images_of_its_style_sheet_and_nothing_more(
    client: Client, sae: Sae
) -> None:
    relaxed, strict = (
        client.get(path)["Content-Security-Policy"] for path in ("/api/v1/docs", "/")
    )
    assert set(relaxed.split("; ")) - set(strict.split("; ")) == {"img-src 'self' data:"}


def test_no_page_needs_what_the_policy_forbids(client: Client, sae: Sae) -> None:
    for path, answer in pages(client, sae):
        if path.startswith("/admin"):
            continue  # Django's own
        text = answer.content.decode()
        assert not re.search(r"<[^>]*\s(style|on\w+)\s*=", text), path
        assert not re.search(r"<style|<script(?![^>]*\ssrc=)|javascript:", text), path
        assert not re.search(r"""(src|<link[^>]*href)=["'](\w+:)?//""", text), path


ELSEWHERE = [
    "//evil.example", "/\\evil.example", "https:evil.example", "https://evil.example/",
    "///evil.example", "\\\\evil.example", "javascript:alert(1)", "http://testserver@evil.example/",
    "/%0d%0aSet-Cookie: a=b\r\nLocation: //evil.example", "\t//evil.example", "https:///evil.example",
]  # fmt: skip


@pytest.mark.parametrize("target", ELSEWHERE)
def test_signing_in_leads_to_this_server_only(owner: User, target: str) -> None:
    owner.set_password("a long enough secret")
    owner.save()
    form = {"username": "owner", "password": "a long enough secret", "next": target}
    answer = Client().post("/sign-in/", form)
    assert answer.status_code == 302
    where = answer["Location"]
    assert re.match(r"/($|[^/\\])", where) and "\n" not in where
    assert "Set-Cookie: a=b" not in str(answer.headers)


@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_link_that_signs_in_ignores_where_it_is_told_to_go(owner: User, target: str) -> None:
    path = "/" + accounts.sign_in_url(owner).split("/", 3)[3]
    answer = Client().post(path, {"next": target}, query_params={"next": target})
    assert answer["Location"] == "/"
