"""Deleting over the API: one SAE or several, with the files or without."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from saes import services
from saes.models import Job, Sae, SaeFile
from tests.api.conftest import ApiClient, client_of, person
from tests.api.made import parsed, put_file, ready_sae, running_job


def test_deleting_with_the_files(api: ApiClient, owner: User) -> None:
    sae = ready_sae(owner)
    home = services.library().home(sae.id)
    told = api.delete(f"/saes/{sae.id}")
    assert (api.status, told["deleted"], told["id"], told["kept_files"]) == (
        200,
        True,
        sae.id,
        None,
    )
    assert not home.exists() and not Sae.objects.exists() and not SaeFile.objects.exists()
    assert api.delete(f"/saes/{sae.id}")["code"] == "not_found"


def test_deleting_without_the_files(api: ApiClient, owner: User) -> None:
    sae = ready_sae(owner)
    told = api.delete(f"/saes/{sae.id}?delete_files=false")
    assert told["kept_files"] == f"kept/{sae.id}"
    assert (services.library().root / "kept" / sae.id / "source" / "cfg.json").is_file()
    assert not services.library().home(sae.id).exists()


@pytest.mark.parametrize("query", ["delete_files=maybe", "delete_files=", "keep=1"])
def test_a_mistyped_wish_deletes_nothing(api: ApiClient, owner: User, query: str) -> None:
    sae = ready_sae(owner)
    assert api.delete(f"/saes/{sae.id}?{query}")["code"] == "bad_request"
    assert Sae.objects.filter(id=sae.id).exists()


def test_deleting_stops_the_job(api: ApiClient, owner: User) -> None:
    sae = ready_sae(owner, status=Sae.Status.DOWNLOADING)
    running_job(sae, owner)
    assert api.delete(f"/saes/{sae.id}")["deleted"]
    assert not Job.objects.exists()


def test_deleting_several_says_what_became_of_each(editor: User) -> None:
    mine, theirs, linked = ready_sae(editor), ready_sae(editor), ready_sae(editor)
    running_job(theirs, person("ann", "editor"), Job.Kind.VERIFY)
    home = services.library().home(linked.id)
    home.rename(home.with_name("elsewhere"))
    home.symlink_to("elsewhere")
    api = client_of(editor)
    ids = [mine.id, theirs.id, "sae_none", "../../etc", linked.id, mine.id]
    told = api.post("/saes/delete", {"sae_ids": ids})
    assert api.status == 200
    assert (told["deleted_count"], told["failed_count"]) == (1, 4)
    assert told["deleted_ids"] == [mine.id]
    assert told["failed_ids"] == [theirs.id, "sae_none", "../../etc", linked.id]
    assert set(told["errors"]) == set(told["failed_ids"])
    assert told["errors"][theirs.id] == "Somebody else started this job."
    assert told["message"] == "1 deleted, 4 failed."
    assert set(Sae.objects.values_list("id", flat=True)) == {theirs.id, linked.id}
    assert (home.with_name("elsewhere") / "source" / "cfg.json").is_file()


def test_deleting_several_without_the_files(api: ApiClient, owner: User) -> None:
    sae = ready_sae(owner)
    put_file(sae, "source/more.json", SaeFile.Kind.SOURCE)
    told = api.post("/saes/delete", {"sae_ids": [sae.id], "delete_files": False})
    assert (told["deleted_ids"], told["failed_ids"], told["errors"]) == ([sae.id], [], {})
    assert (services.library().root / "kept" / sae.id).is_dir()


def test_deleting_several_ends_after_a_while_and_says_what_is_left(
    api: ApiClient, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saes.steering.LET_GO_SECONDS", 0.4)
    monkeypatch.setattr("saes.api.library.DELETE_SECONDS", 0.2)
    held, second, third = (ready_sae(owner).id for _ in range(3))
    body = {"sae_ids": [held, second, third]}
    with services.library().hold(held, lambda: None):  # as a worker that does not let go
        told = api.post("/saes/delete", body)
    assert (told["deleted_ids"], told["failed_ids"]) == ([held], [second, third])
    assert set(told["errors"].values()) == {"There was no time left for it; ask again."}
    assert api.post("/saes/delete", body)["deleted_ids"] == [second, third]


@pytest.mark.parametrize("ids", [[], ["x"] * 1001, "sae_1", [1], [None], ["a\x00"], None])
def test_a_list_to_delete_that_is_none(api: ApiClient, ids: Any) -> None:
    api.post("/saes/delete", {"sae_ids": ids})
    assert (api.status, parsed(api.last)["code"]) == (422, "bad_body")
