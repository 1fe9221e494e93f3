"""A program of an integrator: starts a download over HTTP and follows it at the socket."""

import json
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.apps import App
from tests.hub import LocalHub, faults
from tests.jobs.conftest import sample_files
from tests.sockets import over_the_wire, token_of

pytestmark = pytest.mark.processes
REPO, WHERE = "smoke/gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_41"
GUIDES = ["pending", "downloading", "converting", "ready"]


def start_download(app: App, token: str) -> dict[str, Any]:
    asked = {"repo_id": REPO, "filepath": WHERE, "name": "followed"}
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = f"{app.url}/api/v1/saes/download"
    with urlopen(Request(url, json.dumps(asked).encode(), sent), timeout=30) as answer:
        assert answer.status == 202
        accepted: dict[str, Any] = json.load(answer)
    return accepted


def test_a_download_is_followed_from_pending_to_ready(running_app: App, app_hub: LocalHub) -> None:
    files = sample_files("gemma_scope_1_res")
    app_hub.add_repo(REPO, files)
    weights = f"{WHERE}/params.npz"
    speed = len(files[weights]) / 3  # three seconds of it
    app_hub.faults.add(
        lambda asked: REPO in asked.file and asked.file.endswith("params.npz"),
        faults.slow(speed), where="cdn", times=None,
    )  # fmt: skip
    token = token_of(running_app)
    with over_the_wire(running_app, token) as line:
        line.send(json.dumps({"action": "subscribe", "channels": ["sae/*"], "id": "all"}))
        done = {"event": "subscribed", "id": "all", "channels": ["sae/*"]}
        assert json.loads(line.recv(timeout=10)) == done
        sae = start_download(running_app, token)
        channel = f"sae/{sae['id']}/download"
        line.send(json.dumps({"action": "subscribe", "channels": [channel]}))
        told: list[dict[str, Any]] = []
        while not told or told[-1]["status"] not in ("ready", "error"):
            frame = json.loads(line.recv(timeout=60))
            if frame.get("channel") == channel:
                assert frame["event"] == "sae:download"
                told.append(frame["data"])
    assert {data["sae_id"] for data in told} == {sae["id"]}
    assert {data["job_id"] for data in told} == {sae["job_id"]}
    # A fast worker may begin before the socket has looked: what was pending is in the answer, too.
    places = [GUIDES.index(data["status"]) for data in (sae, *told)]
    # Of states that follow each other within a tenth of a second some are left out.
    assert places == sorted(places) and {0, 1, 3} <= set(places)
    progress = [data["progress"] for data in told]
    assert progress == sorted(progress) and len(set(progress)) > 5
    assert told[-1]["progress"] == 100
    assert told[-1]["message"] == "Complete and ready to use"
    some = next(data for data in told if data["status"] == "downloading" and data["progress"] > 1)
    assert some["message"] == f"Downloading: {some['progress']}%" and some["stage"] == "download"
