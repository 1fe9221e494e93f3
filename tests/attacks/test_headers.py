"""Row S35: every answer says what browsers may do with it, and cookies stay where they belong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from saes import api_tokens
from saes.models import Sae
from tests.apps import clean_environment, manage
from tests.views.conftest import client, data_dir, owner, sae, signed_in  # noqa: F401  fixtures

pytestmark = pytest.mark.django_db


def answers(owner: User, sae: Sae) -> Iterator[tuple[str, HttpResponse]]:  # noqa: F811
    """One of each way in which a request can end."""
    inside, outside = signed_in(owner), Client()
    token = {"authorization": f"Bearer {api_tokens.create(owner, 'x')[1]}"}
    for path in (
        "/", f"/saes/{sae.id}/delete/", "/storage/", "/admin/", "/admin/saes/sae/", "/healthz",
        "/static/app.css", "/static/icons.svg", "/static/favicon.svg", "/static/admin/css/base.css",
        "/static/nothing.css", "/nowhere/", "/saes/none/", f"/saes/{sae.id}", "/hub/--/x/",
        "/api/v1/saes", "/api/v1/docs", "/api/v1/openapi.json", "/api/v1/nowhere", "/api/nowhere",
        "/api/v1/saes?limit=1000000",
    ):  # fmt: skip
        yield f"inside {path}", inside.get(path)  # type: ignore[misc]
        yield f"outside {path}", outside.get(path)  # type: ignore[misc]
        yield f"program {path}", outside.get(path, headers=token)  # type: ignore[misc]
        foreign = inside.get(path, headers={"host": "evil.example"})
        yield f"foreign host {path}", foreign  # type: ignore[misc]
        strict = signed_in(owner, enforce_csrf_checks=True)
        yield f"unasked post {path}", strict.post(path)  # type: ignore[misc]
        yield f"delete {path}", inside.delete(path)  # type: ignore[misc]


def test_s35_every_answer_carries_the_headers(owner: User, sae: Sae) -> None:  # noqa: F811
    seen = set()
    for name, answer in answers(owner, sae):
        seen.add(answer.status_code)
        if answer.streaming:
            answer.getvalue()  # closes the file
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy, name
        assert "base-uri 'none'" in policy and "form-action 'self'" in policy, name
        assert "unsafe" not in policy and "*" not in policy, name
        assert answer["X-Content-Type-Options"] == "nosniff", name
        assert answer["X-Frame-Options"] == "DENY", name
        assert answer["Referrer-Policy"] == "same-origin", name
        assert answer["Cross-Origin-Opener-Policy"] == "same-origin", name
        assert "Access-Control-Allow-Origin" not in answer or "/static/" in name, name
    assert {200, 301, 302, 400, 401, 403, 404, 405} <= seen


def test_s35_so_does_a_crash(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def crash(*args: object) -> None:
        raise RuntimeError("/a/path and 'a secret'")

    monkeypatch.setattr("saes.queries.narrowed", crash)
    client = signed_in(owner, raise_request_exception=False)  # noqa: F811
    for path in ("/", "/api/v1/saes"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert "a secret" not in answer.content.decode()
        assert "Traceback" not in answer.content.decode()
        assert answer["X-Frame-Options"] == "DENY"
        assert "default-src 'self'" in answer["Content-Security-Policy"]


def test_s35_a_plain_address_of_an_https_server_redirects_with_them(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT, settings.SECURE_HSTS_SECONDS = True, 31_536_000
    plain = Client().get("/saes/x/?next=//evil.example")
    assert plain.status_code == 301
    assert plain["Location"] == "https://testserver/saes/x/?next=//evil.example"
    assert plain["X-Frame-Options"] == "DENY"
    assert "Strict-Transport-Security" in Client().get("/sign-in/", secure=True)


def test_s35_private_pages_are_kept_by_no_shared_cache(client: Client, sae: Sae) -> None:  # noqa: F811
    for path in ("/", f"/saes/{sae.id}/", "/hub/", "/api/v1/saes"):
        answer = client.get(path)
        assert "Cookie" in answer["Vary"], path
        assert "public" not in answer.get("Cache-Control", ""), path


def test_s35_cookies_are_out_of_reach_of_scripts_and_other_sites(owner: User) -> None:  # noqa: F811
    owner.set_password("a long enough secret")
    owner.save()
    client = Client()  # noqa: F811
    client.get("/sign-in/")
    client.post("/sign-in/", {"username": "owner", "password": "a long enough secret"})
    assert {configured.SESSION_COOKIE_NAME, configured.CSRF_COOKIE_NAME} <= set(client.cookies)
    for name, cookie in client.cookies.items():
        assert cookie["httponly"], name
        assert cookie["samesite"] == "Lax", name
        assert not cookie["domain"], name


def test_s35_under_https_cookies_never_go_in_clear(tmp_path: Path) -> None:
    """Settings are read once: another process is asked what they become."""
    asked = (
        "from django.conf import settings as s;"
        "print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_SSL_REDIRECT,"
        " s.SECURE_HSTS_SECONDS > 0, s.DEBUG)"
    )
    env = clean_environment(tmp_path, MISTUDIO_PUBLIC_URL="https://lab.example")
    done = manage("shell", "--no-imports", "-c", asked, env=env)
    assert done.stdout.split() == ["True", "True", "True", "True", "False"], done.stderr
