"""Every error below /api/ has one form, whoever found it."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import UnreadablePostError
from django.test import Client
from pytest_django import Settings

from saes import queries, services
from tests.api.conftest import BASE, ApiClient
from tests.api.made import parsed, raw, ready_sae


def known(api: ApiClient, **more: Any) -> Client:
    return Client(headers={"authorization": f"Bearer {api.token}"}, **more)


@pytest.mark.parametrize(
    "path", ["/nothing", "/saes/sae_000000000000", "/saes/x/y/z", "/jobs/job_000000000000", "/"]
)
def test_nothing_there(api: ApiClient, path: str) -> None:
    api.get(path)
    assert (api.status, parsed(api.last)["code"]) == (404, "not_found")


def test_outside_version_one_too(api: ApiClient) -> None:
    assert parsed(known(api).get("/api/v2/saes"))["code"] == "not_found"


@pytest.mark.parametrize("debug", [False, True])
def test_nothing_there_says_no_more_to_developers(
    api: ApiClient, settings: Settings, debug: bool
) -> None:
    settings.DEBUG = debug
    api.get("/nothing")
    assert "urlpatterns" not in str(parsed(api.last))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("put", "/saes", {"GET"}),
        ("delete", "/saes", {"GET"}),
        ("get", "/saes/download", {"POST"}),
        ("get", "/saes/delete", {"POST"}),
        ("post", "/saes/sae_000000000000", {"GET", "PATCH", "DELETE"}),
        ("options", "/jobs", {"GET"}),
        ("head", "/jobs", {"GET"}),
    ],
)
def test_a_method_that_is_not_there(
    api: ApiClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = getattr(known(api), method)(BASE + path, content_type="application/json")
    assert answer.status_code == 405
    assert set(answer["Allow"].split(", ")) == allowed
    if method != "head":
        assert parsed(answer)["code"] == "method_not_allowed"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "a b", "127.0.0.1@x"])
@pytest.mark.parametrize("debug", [False, True])
def test_a_foreign_host(api: ApiClient, settings: Settings, host: str, debug: bool) -> None:
    settings.DEBUG, settings.ALLOWED_HOSTS = debug, ["localhost", "testserver"]
    answer = known(api).get(f"{BASE}/saes", headers={"host": host})
    assert answer.status_code == 400
    assert parsed(answer)["code"] == "bad_request"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_a_foreign_host_that_a_proxy_tells_of_is_not_believed(api: ApiClient) -> None:
    answer = known(api).get(f"{BASE}/saes", headers={"x-forwarded-host": "evil.example"})
    assert (answer.status_code, b"evil.example" in answer.content) == (200, False)


@pytest.mark.parametrize("debug", [False, True])
def test_a_body_that_is_too_large(api: ApiClient, settings: Settings, debug: bool) -> None:
    settings.DEBUG = debug
    body = json.dumps({"repo_id": "a/b", "name": "x" * 2**20}).encode()
    assert (raw(api, body)["code"], api.status) == ("bad_request", 413)
    assert "too large" in api.last.content.decode()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"not json",
        b'{"repo_id": "\xff\xfe"}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"repo_id": "a/b", "facts": {"k": ' + b"9" * 5_000 + b"}}",
        b'{"repo_id": "a/b", "facts": {"norm_scaling_factor": NaN}}',
        b'{"repo_id": "a/b", "facts": {"norm_scaling_factor": -Infinity}}',
        b'{"repo_id": "a/b"} {"repo_id": "a/b"}',
        b"\x00",
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_a_body_that_is_no_json(
    api: ApiClient, settings: Settings, body: bytes, debug: bool
) -> None:
    settings.DEBUG = debug
    assert raw(api, body)["detail"] == "The body is not JSON."
    assert (api.status, parsed(api.last)["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "x/y"],
)
def test_a_body_of_another_kind(api: ApiClient, kind: str) -> None:
    told = raw(api, b'{"repo_id": "a/b"}', kind)
    assert (api.status, told["code"]) == (415, "bad_request")
    assert "application/json" in told["solution"]


def test_json_in_its_charset_is_json(api: ApiClient) -> None:
    raw(api, b'{"repo_id": 1}', "application/json; charset=utf-8")
    assert api.status == 422


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "'repo_id' is missing."),
        ([], "The body should be an object."),
        ("text", "The body should be an object."),
        (7, "The body should be an object."),
        ({"repo_id": 7}, "'repo_id' should be a text."),
        ({"repo_id": None}, "'repo_id' should be a text."),
        ({"repo_id": ""}, "'repo_id' should have 1 characters or more."),
        ({"repo_id": "a" * 501}, "'repo_id' should have 500 characters at most."),
        ({"repo_id": "a/b", "name": "\x00"}, "'name' holds characters that it may not."),
        ({"repo_id": "a/b", "name": "a\nb"}, "'name' holds characters that it may not."),
        ({"repo_id": "a/b", "name": "\ud800"}, "'name' is not valid Unicode."),
        ({"repo_id": "a/b", "hf_token": "x"}, "'hf_token' is no field of this request."),
        ({"repo_id": "a/b", "facts": []}, "'facts' should be an object."),
        ({"repo_id": "a/b", "facts": {"k": [1]}}, "'facts' should be a text."),
        ({"repo_id": "a/b", "access_token": "geheimnis ä"},
         "'access_token' holds characters that it may not."),
        ({"repo_id": "a/b", "z" * 999: 1}, f"{'z' * 50!r} is no field of this request."),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_body_is_said_in_our_words(
    api: ApiClient, body: object, detail: str
) -> None:
    told = raw(api, json.dumps(body).encode())
    assert (told["detail"], told["code"], api.status) == (detail, "bad_body", 422)
    assert "geheimnis" not in str(told)


def test_no_body_where_one_is_needed(api: ApiClient) -> None:
    assert (raw(api, b"")["code"], api.status) == ("bad_body", 422)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=0", "'limit' should be 1 or more."),
        ("limit=1000000000", "'limit' should be 100 at most."),
        ("limit=x", "'limit' should be a whole number."),
        (f"limit={'9' * 5000}", "'limit' is too large a number."),
        ("limit=1.5", "'limit' should be a whole number."),
        ("skip=-1", "'skip' should be 0 or more."),
        ("order=up", "'order' should be one of 'asc' or 'desc'."),
        ("ordering=name", "'ordering' is no parameter of this address."),
    ],
)
def test_what_is_wrong_with_a_parameter_is_said_in_our_words(
    api: ApiClient, query: str, detail: str
) -> None:
    api.get(f"/saes?{query}")
    told = parsed(api.last)
    assert (told["detail"], told["code"], api.status) == (detail, "bad_request", 400)


@pytest.mark.parametrize("debug", [False, True])
def test_a_mistake_of_ours_shows_nothing_of_the_inside(
    api: ApiClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("secret words of the inside")

    settings.DEBUG = debug
    monkeypatch.setattr(queries, "narrowed", broken)
    answer = known(api, raise_request_exception=False).get(f"{BASE}/saes")
    told = parsed(answer)
    assert (answer.status_code, told["code"]) == (500, "crashed")
    assert "secret words" not in str(told) and "RuntimeError" not in str(told)


def test_a_mistake_before_the_router_too(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(token: str) -> None:
        raise RuntimeError("secret words of the inside")

    monkeypatch.setattr("saes.api_tokens.check", broken)
    answer = known(api, raise_request_exception=False).get(f"{BASE}/saes")
    assert (answer.status_code, parsed(answer)["code"]) == (500, "crashed")


def test_a_body_that_breaks_off(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: object) -> bytes:
        raise UnreadablePostError("gone")

    monkeypatch.setattr("django.test.client.FakePayload.read", gone)
    assert raw(api, b"{}")["detail"] == "The body ends early."
    assert api.status == 400


def test_an_sae_that_goes_while_it_is_edited(
    api: ApiClient, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = ready_sae(owner)
    edit = services.edit

    def deleted_first(row: Any, **texts: Any) -> None:
        edit(row, **texts)
        row.delete()

    monkeypatch.setattr(services, "edit", deleted_first)
    api.patch(f"/saes/{sae.id}", {"name": "gone"})
    assert (api.status, parsed(api.last)["code"]) == (404, "not_found")
