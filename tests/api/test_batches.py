"""Several SAEs by one request: those that are named, or all of a repository."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from saes import vault
from saes.models import Batch, HubToken, Job, Sae
from saes.storage import Library
from tests.api.conftest import ApiClient, client_of, work
from tests.api.made import gpt2_sae, in_folder, parsed
from tests.fixtures.releases import made_up
from tests.hub import LocalHub, faults

REPO, SECRET = "me/saes", "hf_canary_of_one_batch_77x"
LAYERS = ["layer_0", "layer_1", "layer_2"]
NOTHING: dict[str, Any] = {"batch_id": None, "jobs": [], "sae_ids": []}


@pytest.fixture(autouse=True)
def repo(hub: LocalHub) -> str:
    """Its commit."""
    hub.add_token(SECRET, "me")
    parts = [in_folder(layer, gpt2_sae(n)) for n, layer in enumerate(LAYERS)]
    files = {name: body for part in parts for name, body in part.items()}
    return hub.add_repo(REPO, {**files, "README.md": b"# SAEs\n"}).sha


def bring(api: ApiClient, *paths: str, **body: Any) -> Any:
    """Those at `paths`, or all."""
    which = {"filepaths": list(paths)} if paths else {"all": True}
    return api.post("/saes/download/batch", {"repo_id": REPO, **which, **body})


# --- what comes -----------------------------------------------------------------------------------


def test_several_become_one_batch_with_a_job_for_each(
    api: ApiClient, owner: User, started: list[Job], repo: str
) -> None:
    told = bring(api, "layer_0", "layer_2", name="two of them", model_name="gpt2")
    batch = Batch.objects.get()
    assert (api.status, told["batch_id"], told["already_here"]) == (202, batch.id, [])
    assert (batch.name, batch.hf_commit, batch.created_by) == ("two of them", repo, owner)
    assert {job.id for job in started} == set(told["jobs"]) and len(told["jobs"]) == 2
    for job_id, sae_id in zip(told["jobs"], told["sae_ids"], strict=True):
        assert api.get(f"/jobs/{job_id}")["sae_id"] == sae_id
    work(started)
    for sae_id in told["sae_ids"]:
        sae = api.get(f"/saes/{sae_id}")
        assert (sae["status"], sae["hf_commit"], sae["model_name"]) == ("ready", repo, "gpt2")


def test_all_of_a_repository(api: ApiClient, started: list[Job]) -> None:
    told = bring(api)
    assert (api.status, len(told["jobs"]), len(started)) == (202, 3, 3)
    assert set(Sae.objects.values_list("hf_filepath", flat=True)) == set(LAYERS)
    assert Batch.objects.get().name == REPO


@pytest.mark.parametrize(
    ("asked", "comes"),
    [
        (["layer_1/", "/layer_1"], ["layer_1"]),
        (["layer_1/cfg.json", "layer_1/sae_weights.safetensors"], ["layer_1"]),
        (["layer_0", "layer_0", "layer_2/cfg.json"], ["layer_0", "layer_2"]),
    ],
)
def test_a_path_means_the_sae_that_it_belongs_to_once(
    api: ApiClient, asked: list[str], comes: list[str]
) -> None:
    assert len(bring(api, *asked)["jobs"]) == len(comes)
    assert sorted(Sae.objects.values_list("hf_filepath", flat=True)) == comes


def test_an_sae_at_the_root_and_of_a_dataset(api: ApiClient, hub: LocalHub) -> None:
    hub.add_repo("me/one", gpt2_sae(2), kind="dataset")
    assert len(bring(api, ".", repo_id="me/one")["jobs"]) == 1
    sae = Sae.objects.get()
    assert (sae.hf_repo_type, sae.hf_filepath) == ("dataset", ".")


def test_the_commit_is_pinned_and_the_revision_kept_as_it_was_named(
    api: ApiClient, hub: LocalHub, repo: str
) -> None:
    told = bring(api, "layer_0", revision="main")
    hub.commit(REPO, {"layer_0/cfg.json": b"{}"})
    sae = api.get(f"/saes/{told['sae_ids'][0]}")
    assert (sae["hf_commit"], sae["hf_revision"]) == (repo, "main")
    assert bring(api, revision=repo)["already_here"] == [sae["id"]]


def test_three_thousand(api: ApiClient, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Library, "free", lambda self: 10**15)
    hub.add_repo("me/many", made_up(3000))
    told = bring(api, repo_id="me/many")
    assert (api.status, len(told["jobs"]), len(set(told["sae_ids"]))) == (202, 3000, 3000)
    assert len(bring(api, repo_id="me/many")["already_here"]) == 3000
    assert api.status == 200


# --- the same again -------------------------------------------------------------------------------


def test_what_is_here_or_on_its_way_is_told_and_starts_nothing(
    api: ApiClient, started: list[Job]
) -> None:
    first = bring(api, "layer_0")
    work(started)
    second = bring(api, "layer_1")
    third = bring(api)
    assert (api.status, len(third["jobs"])) == (202, 1)
    assert set(third["already_here"]) == {*first["sae_ids"], *second["sae_ids"]}
    again = bring(api)
    assert api.status == 200
    assert {**again, "already_here": []} == {**NOTHING, "already_here": []}
    assert set(again["already_here"]) == {*third["already_here"], *third["sae_ids"]}
    assert (Job.objects.count(), Batch.objects.count()) == (3, 3)


def test_one_that_failed_goes_on_in_the_new_batch(api: ApiClient, started: list[Job]) -> None:
    first = bring(api, "layer_0")
    api.post(f"/jobs/{first['jobs'][0]}/cancel")
    told = bring(api, "layer_0", "layer_1")
    assert (len(told["jobs"]), told["already_here"]) == (2, [])
    assert first["sae_ids"][0] in told["sae_ids"] and first["jobs"][0] not in told["jobs"]


def test_one_that_waits_for_an_answer_is_told_as_here(api: ApiClient) -> None:
    first = bring(api, "layer_0")
    Job.objects.update(state=Job.State.FAILED)
    missing = [{"name": "k", "question": "", "readings": {}}]
    Sae.objects.update(status=Sae.Status.ERROR, missing_facts=missing)
    assert bring(api, "layer_0") == {**NOTHING, "already_here": first["sae_ids"]}


def test_a_key_gets_the_same_answer_again(api: ApiClient) -> None:
    body = {"repo_id": REPO, "all": True}
    first = api.post("/saes/download/batch", body, **{"idempotency-key": "k"})
    again = api.post("/saes/download/batch", body, **{"idempotency-key": "k"})
    assert (api.status, again) == (202, first)
    assert Batch.objects.count() == 1


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"repo_id": "me/nothing"}, 404, "repository_not_found"),
        ({"revision": "nowhere"}, 404, "revision_not_found"),
        ({"filepaths": ["layer_0", "layer_7"]}, 404, "path_not_found"),
        ({"filepaths": ["../layer_0"]}, 404, "path_not_found"),
        ({"filepaths": ["README.md"]}, 404, "path_not_found"),
        ({"filepaths": []}, 422, "bad_body"),
        ({"filepaths": ["x" * 501]}, 422, "bad_body"),
        ({"filepaths": ["layer_0"], "all": True}, 422, "bad_body"),
        ({"all": False}, 422, "bad_body"),
        ({"repo_id": "no repo"}, 400, "bad_name"),
        ({"access_token": "hf_wrong_wrong_1"}, 401, "bad_token"),
        ({"model_name": "gpt2\u200b"}, 400, "bad_fact"),
        ({"filepath": "layer_0"}, 422, "bad_body"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    api: ApiClient, started: list[Job], body: dict[str, Any], status: int, code: str
) -> None:
    which = {} if {"filepaths", "all"} & body.keys() else {"all": True}
    api.post("/saes/download/batch", {"repo_id": REPO, **which, **body})
    assert (api.status, parsed(api.last)["code"]) == (status, code)
    assert not started and not Sae.objects.exists() and not HubToken.objects.exists()


def test_a_wrong_path_is_named(api: ApiClient) -> None:
    told = bring(api, "layer_0", "layer_7")
    assert told["detail"] == f"{REPO} holds no SAE at 'layer_7'."


def test_a_full_disk_is_told_with_numbers_and_can_be_overruled(
    api: ApiClient, started: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Library, "free", lambda self: 67_300_000)
    told = bring(api)
    assert (api.status, told["code"]) == (507, "disk_full")
    assert "67,300,000 are free" in told["detail"]
    assert not started and not Batch.objects.exists()
    assert len(bring(api, anyway=True)["jobs"]) == 3


def test_viewers_are_refused(viewer: User) -> None:
    vera = client_of(viewer)
    bring(vera)
    assert (vera.status, parsed(vera.last)["code"]) == (403, "forbidden")
    assert not Sae.objects.exists()


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limited"), (502, "hub_unreachable")])
def test_without_a_listing_nothing_begins(
    api: ApiClient, hub: LocalHub, status: int, code: str
) -> None:
    action = faults.status(429, {"Retry-After": "7"}) if status == 429 else faults.status(503)
    hub.faults.add("/api/", action, times=None)
    assert (bring(api)["code"], api.status) == (code, status)
    assert not Sae.objects.exists()


# --- a token for this batch alone -----------------------------------------------------------------


def test_a_token_opens_what_is_private_and_goes_with_the_last_job(
    api: ApiClient, owner: User, hub: LocalHub, started: list[Job]
) -> None:
    files = in_folder("a", gpt2_sae(1)) | in_folder("b", gpt2_sae(2))
    hub.add_repo("me/private", files, private=True)
    assert bring(api, repo_id="me/private")["code"] == "repository_not_found"
    told = bring(api, repo_id="me/private", access_token=SECRET)
    token = HubToken.objects.get()
    assert (token.for_one_job, vault.reveal(token), vault.of(owner)) == (True, SECRET, None)
    work(started)
    assert {api.get(f"/saes/{sae_id}")["status"] for sae_id in told["sae_ids"]} == {"ready"}
    assert not HubToken.objects.exists()
