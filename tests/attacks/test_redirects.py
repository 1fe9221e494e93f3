"""Row S34: whatever an address, a form or a header asks for, nobody is sent to another server."""

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from django.contrib.contenttypes.models import ContentType
from django.http import HttpResponse
from django.test import Client

from saes.models import Sae
from tests.views.conftest import client, data_dir, owner, sae  # noqa: F401  fixtures
from tests.views.test_doors import ELSEWHERE

pytestmark = pytest.mark.django_db
HERE = re.compile(r"/(?![/\\])[!-~]*")  # no other host, no line end, nothing that browsers drop
NAMES = ("next", "url", "return", "redirect", "to", "_popup", "_to_field", "continue")


def is_here(answer: HttpResponse) -> bool:
    """Neither a redirect, nor one by htmx, nor one by a header leads away."""
    places = [answer[name] for name in ("Location", "HX-Redirect", "HX-Location", "HX-Push-Url",
                                        "HX-Replace-Url", "Refresh") if name in answer]  # fmt: skip
    return all(HERE.fullmatch(place) for place in places) and "Set-Cookie" not in answer.headers


def asked(client: Client, sae: Sae, target: str, **headers: str) -> Iterator[HttpResponse]:  # noqa: F811
    """Every way of being sent on, each told to go to `target`."""
    kind = ContentType.objects.get_for_model(Sae)
    query = "&".join(f"{name}={quote(target)}" for name in NAMES)
    form = dict.fromkeys(NAMES, target)
    for path in (
        "/", "/sign-in/", "/admin/login/", "/admin", "/admin/saes/sae", "/api/v1/docs", "/hub",
        f"/saes/{sae.id}", f"/admin/r/{kind.pk}/{sae.id}/", "/admin/jsi18n/",
    ):  # fmt: skip
        for who in (client, Client()):
            yield who.get(f"{path}?{query}", headers=headers)  # type: ignore[misc]
    for path, more in {
        "/hub/": {"repo": "owner/name"},
        "/hub/forget-token/": {},
        f"/saes/{sae.id}/edit/": {"name": "x"},
        f"/saes/{sae.id}/cancel/": {},
        "/storage/sae_000000000000/remove/": {},
        f"/saes/{sae.id}/delete/": {"keep": ""},
        "/sign-out/": {},
    }.items():
        yield client.post(f"{path}?{query}", form | more, headers=headers)  # type: ignore[misc]


@pytest.mark.parametrize("target", ELSEWHERE)
@pytest.mark.parametrize("htmx", [False, True], ids=["page", "htmx"])
def test_s34_no_parameter_and_no_header_sends_elsewhere(
    client: Client,  # noqa: F811
    sae: Sae,  # noqa: F811
    target: str,
    htmx: bool,
) -> None:
    flat = re.sub(r"[\x00-\x1f]", "", target)
    headers = {"referer": flat, "x-forwarded-host": "evil.example", "hx-current-url": flat}
    if htmx:
        headers |= {"hx-request": "true", "hx-target": flat, "hx-trigger": flat}
    seen = list(asked(client, sae, target, **headers))
    for answer in seen:
        assert is_here(answer), (answer.request["PATH_INFO"], answer.headers)  # type: ignore[attr-defined]
    sent_on = [answer for answer in seen if answer.status_code in (301, 302)]
    assert len(sent_on) >= 10


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "//evil.example/saes/x", "/\\evil.example/x", "//evil.example/admin",
     "/%2f%2fevil.example/x", "/%5cevil.example", "/.evil.example", "//evil.example%2f..",
     "/admin//evil.example", "/admin/\\evil.example/x", "/saes/x%0d%0aLocation:%20%2f%2fevil"],
)  # fmt: skip
def test_s34_an_address_that_gets_its_slash_stays_here(client: Client, path: str) -> None:  # noqa: F811
    for who in (client, Client()):
        answer = who.generic("GET", path, PATH_INFO=path)
        assert is_here(answer), answer.headers  # type: ignore[arg-type]


def test_the_check_finds_what_leads_away() -> None:
    for place in ("//evil", "/\\evil", "https://evil", "javascript:x", "/x\r\ny", "/\t/evil", ""):
        assert not is_here(HttpResponse(headers={"HX-Redirect": place.replace("\r\n", " ")}))
    assert is_here(HttpResponse(headers={"Location": "/sign-in/?next=//evil"}))
