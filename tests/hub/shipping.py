"""Our own client, with the limits that it gives to the real one, and a file that it sends."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import huggingface_hub
import pytest

from saes.hub import Committed, Hub, Outgoing, Shipment, http
from tests.hub import LocalHub

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
