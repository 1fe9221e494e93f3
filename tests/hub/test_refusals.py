"""What the Hub's refusals of writes become: its own words, and whether asking again may help."""

import hashlib
import time
from collections.abc import Iterator

import httpx2
import huggingface_hub as hf
import pytest

from saes import patience
from saes.errors import AccessDenied, CannotPublish, HubMisbehaved, HubUnreachable, SaeError
from saes.hub import Hub, Identity, Outgoing, Shipment, http, without_user
from tests.hub import LocalHub, upload_faults
from tests.hub.answers import Answer, Request
from tests.hub.faults import Action

REPO = "alice/new"
SECRET = "hf_writer_3333"


@pytest.fixture
def ours(hub: LocalHub) -> Hub:
    hub.add_token(SECRET, "alice", "write")
    made = Hub(hub.url, SECRET)
    made.create(REPO, private=True)
    return made


def commit(ours: Hub, hub: LocalHub) -> str:
    file = Outgoing("a/cfg.json", b"{}", 2, sha256_of(b"{}"))
    with Shipment(ours, REPO, [file], as_pull_request=False) as shipment:
        shipment.prepare()
        shipment.send(0)
        return shipment.commit("It", "", hub.repo(REPO).sha).commit


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def said(text: str) -> dict[str, str]:
    return {"X-Error-Message": text}


STATUSES = {403: AccessDenied, 400: CannotPublish, 413: CannotPublish, 422: CannotPublish,
            423: CannotPublish, 451: CannotPublish}  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
def test_the_hubs_own_words_are_told_and_it_is_not_asked_again(
    ours: Hub, hub: LocalHub, status: int
) -> None:
    words = "Private repository storage limit reached"
    hub.faults.add("/commit/", upload_faults.refused(status, said(words)), times=None)
    with pytest.raises(SaeError) as refused:
        commit(ours, hub)
    assert type(refused.value) is STATUSES[status]
    assert f"The Hub says: “{words}”" in str(refused.value)
    assert not isinstance(refused.value, patience.TRANSIENT)


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(ours: Hub, hub: LocalHub, status: int) -> None:
    hub.faults.add("/commit/", upload_faults.refused(status), times=1)
    with pytest.raises(HubUnreachable):
        commit(ours, hub)
    assert commit(ours, hub) == hub.repo(REPO).sha


def test_words_are_one_short_line_without_a_token(ours: Hub, hub: LocalHub) -> None:
    words = f"No\x1b[31m {SECRET} " + "x" * 900
    hub.faults.add("/commit/", upload_faults.refused(403, said(words)))
    with pytest.raises(AccessDenied) as refused:
        commit(ours, hub)
    told = str(refused.value)
    assert SECRET not in told and "\x1b" not in told and len(told) < 500


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clients that wait a second for an answer."""
    monkeypatch.setattr(http, "TIMEOUT", httpx2.Timeout(1.0, connect=10))
    hf.close_session()
    yield
    hf.close_session()


def late(seconds: float) -> Action:
    def change(request: Request, answer: Answer) -> Answer:
        time.sleep(seconds)
        return answer

    return Action(change)


@pytest.mark.usefixtures("short_patience")
def test_a_commit_may_take_the_hub_longer_than_a_question_may(ours: Hub, hub: LocalHub) -> None:
    hub.faults.add("/commit/", late(2.5))
    assert commit(ours, hub) == hub.repo(REPO).sha


def test_bytes_go_to_no_store_that_is_asked_in_the_open() -> None:
    request = httpx2.Request("PUT", "http://store.example/x", headers={"Authorization": "Bearer x"})
    limits = Hub("https://hub.example")._limits
    with (
        http.asking("https://hub.example", 5, limits, sends=True),
        pytest.raises(HubMisbehaved, match="in secret"),
    ):
        http._pin(request)


def test_an_address_is_shown_without_the_password_of_a_mirror() -> None:
    hub = Hub("https://user:password@mirror.example:8443/hf")
    assert hub.page_of(REPO, "abc") == f"https://mirror.example:8443/hf/{REPO}/commit/abc"
    assert without_user("") == ""


def test_a_token_of_an_application_is_left_to_the_hubs_decision() -> None:
    told = {"name": "alice", "auth": {"type": "oauth"}, "orgs": [
        {"name": "lab", "roleInOrg": "write", "resourceGroups": [{"name": "x", "role": "read"}]},
    ]}  # fmt: skip
    identity = Identity.of(told)
    assert identity.why_not_write("stranger/x", exists=True) == ""
    assert identity.describe() == "Of alice. The Hub does not say what it may: it will decide."


@pytest.mark.parametrize(
    "told",
    [[], {}, {"name": "alice", "auth": []}, {"name": "alice", "auth": {"accessToken": [1]}},
     {"name": 5, "auth": {}}, {"name": "alice", "auth": {}, "orgs": {"a": 1}},
     {"name": "alice", "auth": {}, "orgs": [5]}, {"name": "a" * 1000, "auth": {}}],
)  # fmt: skip
def test_an_answer_of_another_shape_is_misbehaviour(told: object) -> None:
    with pytest.raises(HubMisbehaved):
        Identity.of(told)
