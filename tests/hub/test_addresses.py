"""A mirror whose address holds a name and a password: both are sent, and never shown or stored."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from mistudio import env
from saes import errors
from saes.hub import Hub, without_user
from saes.templatetags.parts import hub_page
from tests.hub import LocalHub, faults
from tests.hub.answers import Request
from tests.hub.shipping import REPO, TOKEN, our_client, ours, sent

__all__ = ["our_client", "ours"]


@pytest.fixture
def mirror(ours: Hub, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """It lets everybody in who knows its password."""
    known = property(lambda request: TOKEN if _has_password(request) else None)
    monkeypatch.setattr(Request, "token", known)
    return Hub(hub.url.replace("://", "://user:secret@"), TOKEN)


def _has_password(request: Request) -> bool:
    return request.headers["Authorization"] == "Basic dXNlcjpzZWNyZXQ="


def test_the_address_of_a_commit_is_without_the_mirrors_password(
    mirror: Hub, hub: LocalHub
) -> None:
    page = f"{hub.url}/{REPO}/commit/"
    made, again = sent(mirror, hub), sent(mirror, hub)  # the second has nothing to commit
    assert (made.url, again.url) == (page + made.commit, page + made.commit)
    assert mirror.page_of(REPO, "abc") == page + "abc"


def test_the_address_of_a_pull_request_is_without_the_mirrors_password(
    mirror: Hub, hub: LocalHub
) -> None:
    made = sent(mirror, hub, as_pull_request=True)
    assert made.pull_request == f"{hub.url}/{REPO}/discussions/1"
    assert mirror.open_pull_requests(REPO, "alice") == [("refs/pr/1", made.pull_request)]


def test_an_error_names_the_mirror_without_its_password(mirror: Hub, hub: LocalHub) -> None:
    hub.faults.add("/api/", faults.status(500), times=None)
    with pytest.raises(errors.HubUnreachable) as away:
        mirror.whoami()
    assert hub.url in str(away.value) and "secret" not in str(away.value)


def test_links_to_the_hub_are_without_the_mirrors_password(settings: Settings) -> None:
    settings.HF_ENDPOINT = "https://user:secret@mirror.example:8443/hub"
    assert hub_page("a/b") == "https://mirror.example:8443/hub/a/b"
    assert hub_page("a/b", "dataset", "c0", "x@y") == (
        "https://mirror.example:8443/hub/datasets/a/b/tree/c0/x%40y"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ("https://u@h/a@b/c?d@e", "https://h/a@b/c?d@e"),
        ("http://u:p@ss@h:80", "http://h:80"),
        ("https://h/?to=http://u:p@i", "https://h/?to=http://u:p@i"),
        ("http://u:p@[::1", "http://[::1"),
        ("", ""),
    ],
)
def test_only_name_and_password_are_left_out(url: str, shown: str) -> None:
    assert without_user(url) == shown


@pytest.mark.parametrize("value", ["https://u:secret@h/a b", "https://u:secret@h:x", "u:secret@h"])
def test_a_variable_that_is_no_url_is_refused_without_its_password(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", value)
    with pytest.raises(env.BadVariable) as bad:
        env.url("HF_ENDPOINT")
    assert "secret" not in str(bad.value)
