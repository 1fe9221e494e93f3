"""Bringing SAEs in over the API: what is told at once, and what the job finds out itself."""

import json
import socket
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from saes import admission, jobs, queueing, repo_summary, vault
from saes.models import HubToken, Job, KeptAnswer, Sae
from tests.api.conftest import ApiClient, work
from tests.api.made import gpt2_sae, in_folder, parsed
from tests.hub import LocalHub, faults
from tests.quick import all_rows

REPO = "me/saes"
SECRET = "hf_canary_of_one_job_77x"
BODY = {"repo_id": REPO, "filepath": "layer_6"}


@pytest.fixture(autouse=True)
def repo(hub: LocalHub) -> None:
    hub.add_token(SECRET, "me")
    files = in_folder("layer_0", gpt2_sae(0)) | in_folder("layer_6", gpt2_sae(6))
    hub.add_repo(REPO, {**files, "README.md": b"# SAEs\n"})


def download(api: ApiClient, **body: Any) -> Any:
    return api.post("/saes/download", {**BODY, **body})


# --- what is told at once ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"repo_id": "me/nothing"}, 404, "repository_not_found"),
        ({"filepath": "layer_7"}, 404, "path_not_found"),
        ({"filepath": "../layer_6"}, 404, "path_not_found"),
        ({"filepath": "/etc/passwd"}, 404, "path_not_found"),
        ({"filepath": "README.md"}, 404, "path_not_found"),
        ({"filepath": "."}, 404, "path_not_found"),
        ({"filepath": ""}, 404, "path_not_found"),
        ({"revision": "nowhere"}, 404, "revision_not_found"),
        ({"repo_id": "no repo"}, 400, "bad_name"),
        ({"repo_id": "../.."}, 400, "bad_name"),
        ({"repo_id": "file:///etc/passwd"}, 400, "bad_name"),
        ({"revision": "a/../b?x"}, 400, "bad_name"),
        ({"access_token": "hf_wrong_wrong_1"}, 401, "bad_token"),
        ({"facts": {"k": -1}}, 400, "bad_fact"),
        ({"facts": {"colour": "red"}}, 400, "bad_fact"),
        ({"repo_type": "dataset"}, 422, "bad_body"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    api: ApiClient, started: list[Job], body: dict[str, Any], status: int, code: str
) -> None:
    download(api, **body)
    assert (api.status, parsed(api.last)["code"]) == (status, code)
    assert not started and not Sae.objects.exists() and not HubToken.objects.exists()


@pytest.mark.parametrize(
    ("asked", "token", "code"),
    [
        (None, None, "gated_no_token"),
        (None, "hf_alice_1111", "gated_terms_not_accepted"),
        ("pending", "hf_alice_1111", "gated_awaiting_review"),
        ("rejected", "hf_alice_1111", "access_denied"),
    ],
)
def test_a_gate_is_told_at_once(
    api: ApiClient, hub: LocalHub, asked: Any, token: Any, code: str
) -> None:
    gated = hub.add_repo("org/gated", in_folder("a", gpt2_sae(1)), gated="manual")
    hub.ask_access(gated, "alice", asked)
    more = {"access_token": token} if token else {}
    download(api, repo_id="org/gated", filepath="a", **more)
    assert (api.status, parsed(api.last)["code"]) == (403, code)
    assert not Sae.objects.exists() and not HubToken.objects.exists()


def test_a_gate_that_is_open_lets_it_in(api: ApiClient, hub: LocalHub, started: list[Job]) -> None:
    gated = hub.add_repo("org/gated", in_folder("a", gpt2_sae(1)), gated="manual")
    hub.ask_access(gated, "alice", "accepted")
    told = download(api, repo_id="org/gated", filepath="a", access_token="hf_alice_1111")
    assert api.status == 202
    work(started)
    assert api.get(f"/saes/{told['id']}")["status"] == "ready"


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ("layer_6/", "layer_6"), ("/layer_6/", "layer_6"), ("layer_6/cfg.json", "layer_6"),
        ("layer_6/sae_weights.safetensors", "layer_6"),
    ],
)  # fmt: skip
def test_a_path_means_the_sae_that_it_belongs_to(api: ApiClient, asked: str, where: str) -> None:
    assert (download(api, filepath=asked)["hf_filepath"], api.status) == (where, 202)


@pytest.mark.parametrize("where", [".", "", "/", "cfg.json"])
def test_an_sae_at_the_root(api: ApiClient, hub: LocalHub, started: list[Job], where: str) -> None:
    hub.add_repo("me/one", gpt2_sae(2))
    told = download(api, repo_id="me/one", filepath=where)
    assert (api.status, told["hf_filepath"], told["name"]) == (202, ".", "one")
    work(started)
    assert api.get(f"/saes/{told['id']}")["status"] == "ready"


def test_without_a_path_the_root_is_meant(api: ApiClient, hub: LocalHub) -> None:
    hub.add_repo("me/one", gpt2_sae(2))
    assert api.post("/saes/download", {"repo_id": "me/one"})["hf_filepath"] == "."


def test_an_sae_of_a_dataset(api: ApiClient, hub: LocalHub, started: list[Job]) -> None:
    hub.add_repo("me/data", in_folder("a", gpt2_sae(3)), kind="dataset")
    assert api.post("/saes/hf/preview", {"repo_id": "me/data"})["repo_type"] == "dataset"
    told = download(api, repo_id="me/data", filepath="a")
    work(started)
    assert api.get(f"/saes/{told['id']}")["status"] == "ready"


def test_the_commit_is_pinned_when_it_is_asked_for(
    api: ApiClient, hub: LocalHub, started: list[Job]
) -> None:
    sha = hub.repo(REPO).sha
    told = download(api, revision="main")
    assert (told["hf_commit"], told["hf_revision"]) == (sha, "main")
    hub.commit(REPO, {"layer_6/cfg.json": b"{}", "layer_6/sae_weights.safetensors": None})
    work(started)
    ready = api.get(f"/saes/{told['id']}")
    assert (ready["status"], ready["hf_commit"]) == ("ready", sha)


def test_the_pasted_address_of_a_page_is_understood(api: ApiClient, hub: LocalHub) -> None:
    told = download(api, repo_id=f"{hub.url}/{REPO}/tree/{hub.repo(REPO).sha}/layer_0")
    assert (told["hf_repo_id"], told["hf_filepath"]) == (REPO, "layer_6")


def test_a_model_that_is_too_wide_is_told_by_the_job(
    api: ApiClient, hub: LocalHub, started: list[Job]
) -> None:
    told = download(api, model_name="gpt2-xl")
    assert api.status == 202
    work(started)
    ended = api.get(f"/jobs/{told['job_id']}")
    assert (ended["state"], ended["error_code"]) == ("failed", "dimension_mismatch")
    assert ended["error_message"] == (
        "Dimension mismatch: gpt2-xl has width 1600, this SAE reads 768."
    )
    assert ended["solution"]
    sae = api.get(f"/saes/{told['id']}")
    assert (sae["status"], sae["error_code"]) == ("error", "dimension_mismatch")
    assert sae["error_message"] == ended["error_message"]
    assert hub.log.bytes_sent("sae_weights", origin="cdn") < 2_000  # its header alone


# --- the Hub is limited, slow or away ------------------------------------------------------------


def away(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings.HF_ENDPOINT = f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_while_the_hub_is_away_a_job_waits_for_it(
    api: ApiClient, hub: LocalHub, settings: Settings, started: list[Job]
) -> None:
    away(settings)
    told = download(api, filepath="layer_6/cfg.json")
    assert (api.status, told["status"], told["hf_commit"]) == (202, "pending", None)
    assert (download(api, filepath="layer_6/cfg.json")["id"], api.status) == (told["id"], 200)
    settings.HF_ENDPOINT = hub.url
    work(started)
    ready = api.get(f"/saes/{told['id']}")
    assert (ready["status"], ready["hf_filepath"]) == ("ready", "layer_6")
    assert ready["hf_commit"] == hub.repo(REPO).sha


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"repo_id": "me/nothing"}, "repository_not_found"),
        ({"filepath": "nowhere"}, "path_not_found"),
        ({"filepath": "../../../etc/passwd"}, "path_not_found"),
        ({"revision": "nowhere"}, "revision_not_found"),
    ],
)
def test_the_job_finds_out_what_could_not_be_asked(
    api: ApiClient, hub: LocalHub, started: list[Job], body: dict[str, str], code: str
) -> None:
    hub.faults.add("/api/", faults.status(429, {"Retry-After": "7"}), times=1)
    told = download(api, **body)
    assert api.status == 202
    work(started)
    ended = api.get(f"/jobs/{told['job_id']}")
    assert (ended["state"], ended["error_code"], ended["status"]) == ("failed", code, "error")


def test_a_hub_that_stalls_keeps_nobody_waiting(
    api: ApiClient, hub: LocalHub, started: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "CHECK_SECONDS", 2.0)
    hub.faults.add("/api/", faults.stall(0, 30), times=1)
    begin = time.monotonic()
    told = download(api)
    assert api.status == 202
    assert time.monotonic() - begin < 4
    work(started)
    assert api.get(f"/saes/{told['id']}")["status"] == "ready"


def test_a_hub_that_is_slow_at_each_question_keeps_nobody_waiting_either(
    api: ApiClient, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model, a dataset, its listing: one time for all of them, and a second for a retry."""
    monkeypatch.setattr(admission, "CHECK_SECONDS", 3.0)
    hub.add_repo("me/data", in_folder("a", gpt2_sae(3)), kind="dataset")
    hub.faults.add("/api/datasets", faults.stall(0, 1.3), times=1)
    hub.faults.add("/tree/", faults.stall(0, 30), times=None)
    begin = time.monotonic()
    download(api, repo_id="me/data", filepath="a")
    assert api.status == 202
    assert time.monotonic() - begin < 5


def test_a_limited_hub_is_told_to_who_previews(api: ApiClient, hub: LocalHub) -> None:
    hub.faults.add("/api/", faults.status(429, {"Retry-After": "7"}), times=1)
    told = api.post("/saes/hf/preview", {"repo_id": REPO})
    assert (api.status, told["code"], api.header("Retry-After")) == (429, "rate_limited", "7")
    assert told["detail"].startswith("Rate limit exceeded")


def test_a_hub_that_is_away_is_told_to_who_previews(api: ApiClient, settings: Settings) -> None:
    away(settings)
    api.post("/saes/hf/preview", {"repo_id": REPO})
    assert (api.status, parsed(api.last)["code"]) == (502, "hub_unreachable")


def test_a_preview_does_not_wait_for_headers_that_do_not_come(
    api: ApiClient, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo_summary, "HEADER_SECONDS", 1.0)
    hub.add_repo("me/slow", in_folder("a", gpt2_sae(4)) | in_folder("b", gpt2_sae(5)))
    hub.faults.add("slow/resolve", faults.stall(0, 5), times=None)
    hub.faults.add("me/slow/a", faults.stall(0, 5), times=None)
    begin = time.monotonic()
    told = api.post("/saes/hf/preview", {"repo_id": "me/slow"})
    assert (api.status, told["sae_paths"]) == (200, ["a", "b"])
    assert time.monotonic() - begin < 4


@pytest.mark.parametrize(
    "told",
    [
        {"metadata": {"model_name": ["gpt2"], "hook_name": 7}},
        {"metadata": {"model_name": {"a": 1}, "hook_name": "blocks.x.hook"}},
        {"hook_layer": "six", "model_name": "x" * 999},
        {"hook_layer": 10**30},
        {"hook_layer": -1.5},
    ],
)
def test_a_preview_of_odd_configurations_is_an_answer(
    api: ApiClient, hub: LocalHub, told: dict[str, Any]
) -> None:
    files = gpt2_sae(4)
    odd = {**json.loads(files["cfg.json"]), **told}
    hub.add_repo("me/odd", {**files, "cfg.json": json.dumps(odd).encode()})
    assert api.post("/saes/hf/preview", {"repo_id": "me/odd"})["repo_id"] == "me/odd"


# --- the same again ------------------------------------------------------------------------------


def test_the_same_sae_twice_is_one(api: ApiClient, started: list[Job]) -> None:
    first = download(api)
    again = download(api, filepath="layer_6/", name="another name")
    assert (api.status, again["id"], again["name"]) == (200, first["id"], first["name"])
    assert (again["job_id"], len(started)) == (first["job_id"], 1)
    work(started)
    assert (download(api)["status"], api.status) == ("ready", 200)
    assert not started


def test_one_that_failed_goes_on(api: ApiClient, hub: LocalHub, started: list[Job]) -> None:
    first = download(api)
    api.post(f"/jobs/{first['job_id']}/cancel")
    started.clear()
    again = download(api, access_token=SECRET)
    assert (api.status, again["id"], again["status"]) == (202, first["id"], "pending")
    assert again["job_id"] != first["job_id"] and again["error_message"] is None
    work(started)
    assert api.get(f"/saes/{first['id']}")["status"] == "ready"
    assert not HubToken.objects.exists()


def test_a_worker_that_is_fast_does_not_change_the_answer(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "enqueue", lambda queued: jobs.run(queued[0].id))
    told = download(api)
    assert (api.status, told["status"], told["progress"]) == (202, "pending", 0)


# --- a token for one job -------------------------------------------------------------------------


def with_token(api: ApiClient, **headers: str) -> Any:
    return api.post("/saes/download", {**BODY, "access_token": SECRET}, **headers)


def test_a_token_is_kept_encrypted_for_its_job_and_for_nothing_else(
    api: ApiClient, owner: User, started: list[Job]
) -> None:
    told = with_token(api, **{"idempotency-key": "k1"})
    row = HubToken.objects.get()
    assert (row.for_one_job, row.owner, vault.reveal(row)) == (True, owner, SECRET)
    assert started[0].token_id == row.id
    assert KeptAnswer.objects.get().status == 202
    assert SECRET not in str(all_rows())
    assert SECRET not in str(told) + str(api.get(f"/saes/{told['id']}")) + str(api.get("/jobs"))
    assert vault.of(owner) is None  # the next request does not go with it
    work(started)
    assert not HubToken.objects.exists()


def test_a_token_opens_what_is_private(api: ApiClient, hub: LocalHub, started: list[Job]) -> None:
    hub.add_repo("me/private", in_folder("a", gpt2_sae(1)), private=True)
    assert download(api, repo_id="me/private", filepath="a")["code"] == "repository_not_found"
    told = download(api, repo_id="me/private", filepath="a", access_token=SECRET)
    work(started)
    assert api.get(f"/saes/{told['id']}")["status"] == "ready"


def test_a_token_goes_when_its_job_fails(api: ApiClient, hub: LocalHub, started: list[Job]) -> None:
    with_token(api)
    hub.revoke_token(SECRET)
    work(started)
    assert Job.objects.get().error_code == "bad_token"
    assert not HubToken.objects.exists()


@pytest.mark.parametrize("how", ["cancel", "delete", "delete_but_keep"])
def test_a_token_goes_when_its_job_is_stopped(api: ApiClient, how: str) -> None:
    told = with_token(api)
    assert HubToken.objects.count() == 1
    if how == "cancel":
        api.post(f"/jobs/{told['job_id']}/cancel")
    else:
        api.delete(f"/saes/{told['id']}?delete_files={str(how == 'delete').lower()}")
    assert api.status == 200
    assert not HubToken.objects.exists()


def test_a_token_stays_while_its_job_is_paused(api: ApiClient, started: list[Job]) -> None:
    told = with_token(api)
    api.post(f"/jobs/{told['job_id']}/pause")
    assert HubToken.objects.count() == 1
    api.post(f"/jobs/{told['job_id']}/resume")
    work(started)
    assert not HubToken.objects.exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_token_goes_when_no_job_could_be_started(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def broken(*args: object) -> None:
        raise error("broken")

    monkeypatch.setattr(jobs, "start_arrival", broken)
    with pytest.raises(error, match="broken"):
        with_token(api)
    assert not HubToken.objects.exists()


def test_a_token_is_not_kept_for_what_is_here_already(api: ApiClient, started: list[Job]) -> None:
    download(api)
    with_token(api)
    assert api.status == 200
    assert not HubToken.objects.exists()
    work(started)
    with_token(api)
    assert api.status == 200
    assert not HubToken.objects.exists()
