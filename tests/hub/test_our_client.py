"""Our own client, with the limits that it gives to the real one: writes, refusals and addresses."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import httpx2
import huggingface_hub
import pytest

from saes import errors
from saes.hub import Committed, Hub, Outgoing, Shipment, http
from tests.hub import LocalHub, upload_faults

REPO = "alice/new"
TOKEN = "hf_writer_3333"
SMALL, LARGE = "layer_0/cfg.json", "layer_0/sae.safetensors"


@pytest.fixture(autouse=True)
def our_client(plain_client: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As saes.hub makes it; and the client waits for nothing between two tries."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    huggingface_hub.set_client_factory(http._api_client)
    yield
    huggingface_hub.close_session()


@pytest.fixture
def ours(hub: LocalHub) -> Hub:
    hub.add_token(TOKEN, "alice", "write")
    made = Hub(hub.url, TOKEN)
    made.create(REPO, private=True)
    return made


def sent(ours: Hub, hub: LocalHub, name: str = SMALL, **more: bool) -> Committed:
    """A file, all the way into a commit."""
    content = name.encode() * 100
    file = Outgoing(name, content, len(content), sha256(content).hexdigest())
    as_pull_request = more.get("as_pull_request", False)
    with Shipment(ours, REPO, [file], as_pull_request=as_pull_request) as shipment:
        shipment.prepare()
        shipment.send(0)
        return shipment.commit("It", "", hub.repo(REPO).sha)


# --- how long is waited ---------------------------------------------------------------------------


@pytest.fixture
def impatient(ours: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", httpx2.Timeout(0.3, connect=http.CONNECT))
    huggingface_hub.close_session()


@pytest.mark.usefixtures("impatient")
def test_a_commit_that_takes_the_hub_long_is_waited_for(ours: Hub, hub: LocalHub) -> None:
    fault = hub.faults.add("/commit/main", upload_faults.late_answer(1.0))
    assert sent(ours, hub).commit == hub.repo(REPO).sha
    assert fault.hits == 1


@pytest.mark.usefixtures("impatient")
def test_a_commit_is_not_waited_for_longer_than_its_call_may_take(
    ours: Hub, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saes.hub.sending.COMMIT_SECONDS", 0.5)
    hub.faults.add("/commit/main", upload_faults.late_answer(5.0))
    with pytest.raises(errors.HubUnreachable):
        sent(ours, hub)


@pytest.mark.usefixtures("impatient")
def test_a_question_that_only_reads_is_given_up_as_before(ours: Hub, hub: LocalHub) -> None:
    hub.faults.add("/api/whoami", upload_faults.late_answer(5.0), times=None)
    with pytest.raises(errors.HubUnreachable):
        ours.whoami()
