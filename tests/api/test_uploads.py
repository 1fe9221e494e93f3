"""Publishing over the API: the guide's request, a rehearsal, what is refused, what is listed."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User

from saes import vault
from saes.models import HubToken, Job, Publication
from tests.api.conftest import ApiClient, client_of, person, work
from tests.api.made import gpt2_sae, in_folder
from tests.hub import LocalHub

GUIDE = {
    "repo_id": "username/my-sae",
    "filepath": "layer_6",
    "access_token": "hf_xxxxx",
    "create_repo": True,
    "private": False,
    "commit_message": "Initial upload",
}
REPO = "username/my-sae"


@pytest.fixture
def sae_id(api: ApiClient, hub: LocalHub, started: list[Job]) -> str:
    hub.add_token("hf_xxxxx", "username", "write")
    hub.add_repo("someone/saes", in_folder("layer_6", gpt2_sae(6)))
    wanted = {"repo_id": "someone/saes", "filepath": "layer_6", "model_name": "gpt2"}
    sae = api.post("/saes/download", wanted)
    work(started)
    return str(sae["id"])


def upload(api: ApiClient, of: str, **more: Any) -> Any:
    return api.post("/saes/upload", {"sae_id": of, **GUIDE, **more})


def test_the_guides_request_publishes(
    api: ApiClient, sae_id: str, hub: LocalHub, started: list[Job]
) -> None:
    answer = upload(api, sae_id)
    assert api.status == 202, answer
    assert (answer["status"], answer["sae_id"]) == ("pending", sae_id)
    assert [it for it in answer["warnings"] if "license" in it]
    work(started)
    told = api.get(f"/uploads/{answer['id']}")
    repo = hub.repo(REPO)
    assert (told["status"], told["commit_hash"]) == ("ready", repo.sha), told
    assert told["verified_at"] and told["commit_url"].endswith(repo.sha)
    assert told["repo_url"].endswith(f"/{REPO}") and told["repo_created"]
    assert not repo.private and repo.head.title == "Initial upload"
    assert "layer_6/sae_weights.safetensors" in repo.head.files
    assert api.get(f"/saes/{sae_id}")["status"] == "ready"
    assert not HubToken.objects.filter(for_one_job=True).exists()


def test_a_dry_run_tells_what_would_happen_and_does_nothing(
    api: ApiClient, sae_id: str, hub: LocalHub
) -> None:
    told = upload(api, sae_id, dry_run=True)
    assert api.status == 200
    assert told["creates_repo"] and told["public"] and told["account"] == "username"
    assert told["token_rights"] == "Reads, and writes to repositories of username."
    assert {it["action"] for it in told["files"]} == {"new"}
    assert "[`layer_6`]" in told["readme"] and told["problems"] == []
    assert hub.repos.get("model", REPO) is None
    assert not Publication.objects.exists()


def test_without_a_word_on_who_may_see_it_a_new_repository_is_private(
    api: ApiClient, sae_id: str, hub: LocalHub, started: list[Job]
) -> None:
    upload(api, sae_id, private=None)
    work(started)
    assert hub.repo(REPO).private


def test_a_public_repository_without_a_confirmation_is_refused(
    api: ApiClient, sae_id: str, hub: LocalHub
) -> None:
    hub.add_repo(REPO, {})
    told = upload(api, sae_id, private=None)
    assert (api.status, told["code"]) == (409, "wrong_visibility")
    assert "private: false" in told["solution"]


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"sae_id": "sae_000000000000"}, 404, "not_found"),
        ({"repo_id": "nobody else/x"}, 400, "bad_name"),
        ({"repo_id": "stranger/x"}, 403, "access_denied"),
        ({"filepath": "../x"}, 422, "cannot_publish"),
        ({"filepath": "."}, 422, "cannot_publish"),
        ({"access_token": "hf_nobody"}, 401, "bad_token"),
        ({"license": "WTFPL!"}, 422, "bad_body"),
        ({"license": "no-such-license"}, 422, "bad_card"),
        ({"token_name": "nobody's", "access_token": None}, 404, "not_found"),
        ({"create_repo": False}, 404, "repository_not_found"),
        ({"surprise": 1}, 422, "bad_body"),
        ({"saes": [{"sae_id": "sae_000000000000"}]}, 422, "bad_body"),
    ],
)
def test_what_is_refused(
    api: ApiClient, sae_id: str, more: dict[str, Any], status: int, code: str
) -> None:
    told = upload(api, sae_id, **more)
    assert (api.status, told["code"]) == (status, code), told
    assert not Publication.objects.exists()


def test_without_any_token_it_says_where_to_add_one(api: ApiClient, sae_id: str) -> None:
    told = upload(api, sae_id, access_token=None)
    assert (api.status, told["code"]) == (422, "cannot_publish")
    assert "Hub tokens" in told["solution"]


def test_a_stored_token_is_used_by_its_name(
    api: ApiClient, sae_id: str, owner: User, hub: LocalHub, started: list[Job]
) -> None:
    vault.keep(owner, "hf_xxxxx", "publishing")
    upload(api, sae_id, access_token=None, token_name="publishing")
    assert api.status == 202
    work(started)
    assert hub.repo(REPO).head.title == "Initial upload"


def test_several_saes_in_one_commit(
    api: ApiClient, sae_id: str, hub: LocalHub, started: list[Job]
) -> None:
    hub.add_repo("someone/more", in_folder("layer_7", gpt2_sae(7)))
    other = api.post("/saes/download", {"repo_id": "someone/more", "filepath": "layer_7"})["id"]
    work(started)
    body = {name: it for name, it in GUIDE.items() if name != "filepath"}
    body["saes"] = [{"sae_id": sae_id, "filepath": "layer_6"}, {"sae_id": other}]
    answer = api.post("/saes/upload", body)
    assert [it["filepath"] for it in answer["saes"]] == ["layer_6", "blocks.7.hook_resid_pre"]
    work(started)
    assert "blocks.7.hook_resid_pre/cfg.json" in hub.repo(REPO).head.files
    found = api.get(f"/uploads?sae_id={other}")
    assert [it["id"] for it in found["data"]] == [answer["id"]]


def test_uploads_of_others_are_not_told_apart_from_none(api: ApiClient, sae_id: str) -> None:
    answer = upload(api, sae_id)
    stranger = client_of(person("eve", "editor"))
    assert stranger.get(f"/uploads/{answer['id']}")["code"] == "not_found"
    assert stranger.get("/uploads")["data"] == []


def test_viewers_publish_nothing(api: ApiClient, sae_id: str, viewer: User) -> None:
    told = upload(client_of(viewer), sae_id)
    assert told["code"] == "forbidden"


def test_the_token_is_nowhere_in_answers_and_rows(
    api: ApiClient, sae_id: str, started: list[Job]
) -> None:
    answer = upload(api, sae_id)
    work(started)
    seen = [answer, api.get(f"/uploads/{answer['id']}"), api.get(f"/jobs/{answer['job_id']}")]
    rows = [*Publication.objects.values(), *Job.objects.values()]
    assert "hf_xxxxx" not in json.dumps([seen, rows], default=str)


def test_a_license_of_another_name_is_named_in_the_card(
    api: ApiClient, sae_id: str, hub: LocalHub, started: list[Job]
) -> None:
    unnamed = upload(api, sae_id, license="other", dry_run=True)
    assert any("nothing says which" in it for it in unnamed["warnings"])
    more = {"license": "other", "license_name": "lab-1.0", "license_link": "LICENSE"}
    upload(api, sae_id, **more)
    work(started)
    card = hub.repo(REPO).head.files["README.md"]
    text = card.read(0, card.size).decode()
    assert "license: other\nlicense_name: lab-1.0\nlicense_link: LICENSE\n" in text
    assert upload(api, sae_id, **{**more, "license_link": "javascript:x"})["code"] == (
        "cannot_publish"
    )
