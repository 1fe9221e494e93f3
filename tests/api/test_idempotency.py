"""Idempotency-Key: sent twice, done once, answered twice – also at the same instant."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection
from django.test import RequestFactory
from django.utils import timezone

from saes import jobs
from saes.api import idempotency
from saes.errors import Conflict
from saes.models import Job, KeptAnswer, Sae
from tests.api.conftest import ApiClient, client_of, person
from tests.api.made import gpt2_sae, parsed, ready_sae
from tests.apps import wait_for
from tests.hub import LocalHub, faults

ONE = {"idempotency-key": "one"}
BODY = {"repo_id": "me/one", "filepath": "."}


@pytest.fixture(autouse=True)
def repo(hub: LocalHub) -> None:
    hub.add_repo("me/one", gpt2_sae(1))


def download(api: ApiClient, headers: dict[str, str] = ONE, **more: Any) -> Any:
    return api.post("/saes/download", {**BODY, **more}, **headers)


def test_the_same_request_is_answered_the_same(api: ApiClient, started: list[Job]) -> None:
    first = download(api)
    assert api.status == 202
    Sae.objects.update(status=Sae.Status.DOWNLOADING)
    assert (download(api), api.status) == (first, 202)
    assert len(started) == Sae.objects.count() == 1


def test_a_batch_of_deletions_is_answered_the_same(api: ApiClient, owner: User) -> None:
    body = {"sae_ids": [ready_sae(owner).id, "sae_none"]}
    first = api.post("/saes/delete", body, **ONE)
    assert first["deleted_count"] == 1
    assert api.post("/saes/delete", body, **ONE) == first
    assert api.post("/saes/delete", body)["deleted_count"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/saes/download", {**BODY, "name": "another"}),
        ("/saes/download?x=1", BODY),
        ("/saes/hf/preview", {"repo_id": "me/one"}),
    ],
)
def test_a_key_belongs_to_one_request(api: ApiClient, path: str, body: Any) -> None:
    download(api)
    api.post(path, body, **ONE)
    assert (api.status, parsed(api.last)["code"]) == (422, "key_reused")


def test_keys_of_two_users_are_two(api: ApiClient, editor: User, started: list[Job]) -> None:
    first = download(api)
    other = client_of(editor)
    assert (download(other)["id"], other.status) == (first["id"], 200)
    assert KeptAnswer.objects.count() == 2


def test_two_tokens_of_a_user_share_their_keys(api: ApiClient, owner: User) -> None:
    assert download(client_of(owner)) == download(api)


def test_a_key_opens_nothing_to_who_may_not_write_any_more(api: ApiClient, owner: User) -> None:
    download(api)
    assert download(client_of(owner, "read"))["code"] == "forbidden"


def test_a_request_that_failed_may_be_sent_again(api: ApiClient, hub: LocalHub) -> None:
    assert download(api, repo_id="me/two")["code"] == "repository_not_found"
    assert not KeptAnswer.objects.exists()
    hub.add_repo("me/two", gpt2_sae(2))
    download(api, repo_id="me/two")
    assert api.status == 202


def test_a_request_that_crashed_may_be_sent_again(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "start_arrival", broken)
        with pytest.raises(RuntimeError, match="broken"):
            download(api)
    assert not KeptAnswer.objects.exists()
    download(api)
    assert api.status == 202


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 201, "\xe9", "a\tb"])
def test_a_key_has_plain_characters(api: ApiClient, key: str) -> None:
    download(api, {"idempotency-key": key})
    assert (api.status, parsed(api.last)["code"]) == (400, "bad_request")


def test_an_answer_is_kept_for_a_day(api: ApiClient) -> None:
    download(api)
    KeptAnswer.objects.update(created_at=timezone.now() - timedelta(hours=23))
    assert (download(api)["status"], api.status) == ("pending", 202)
    KeptAnswer.objects.update(created_at=timezone.now() - timedelta(hours=25))
    download(api)
    assert api.status == 200  # asked anew: it is here by now


def test_a_user_keeps_a_bounded_number(
    api: ApiClient, editor: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "MOST_KEPT", 3)
    download(client_of(editor))
    for n in range(6):
        download(api, {"idempotency-key": str(n)})
    kept = KeptAnswer.objects.order_by("id").values_list("user__username", "key")
    assert [key for name, key in kept if name == "owner"] == ["3", "4", "5"]
    assert [key for name, key in kept if name == "erin"] == ["one"]


def test_a_large_answer_is_not_kept(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "LARGEST", 10)
    first = api.post("/saes/hf/preview", {"repo_id": "me/one"}, **ONE)
    assert not KeptAnswer.objects.exists()
    assert api.post("/saes/hf/preview", {"repo_id": "me/one"}, **ONE) == first


def test_what_a_user_can_make_the_server_keep_is_64_mb(
    api: ApiClient, owner: User, hub: LocalHub
) -> None:
    old = [KeptAnswer(user=owner, key=str(n), asked="x", status=200) for n in range(1000)]
    KeptAnswer.objects.bulk_create(old)
    download(api)
    assert KeptAnswer.objects.count() == 1000
    assert not KeptAnswer.objects.filter(key="0").exists()
    hub.add_repo("me/many", {f"{n:0100}.txt": b"x" for n in range(500)} | gpt2_sae(1))
    headers = {"idempotency-key": "many"}
    assert api.post("/saes/hf/preview", {"repo_id": "me/many"}, **headers)["files"]
    assert 64_000 < len(api.last.content) < 500_000
    assert not KeptAnswer.objects.filter(key="many").exists()


def test_a_server_that_was_killed_leaves_no_key_for_ever(api: ApiClient) -> None:
    download(api)
    KeptAnswer.objects.update(status=None, body=None)  # as a kill would leave it
    assert (download(api)["code"], api.status) == ("conflict", 409)
    KeptAnswer.objects.update(created_at=timezone.now() - idempotency.GIVEN_UP_AFTER)
    download(api)
    assert api.status == 200
    assert KeptAnswer.objects.get().status == 200


def test_who_took_over_is_not_overwritten_by_who_had_given_up(owner: User) -> None:
    old = timezone.now() - idempotency.GIVEN_UP_AFTER
    row = KeptAnswer.objects.create(user=owner, key="k", asked="x", created_at=old)
    slow = KeptAnswer.objects.get(id=row.id)
    assert idempotency._taken_over(row)
    assert not idempotency._taken_over(slow)
    idempotency._keep(slow, {"late": True})
    assert KeptAnswer.objects.get().status is None
    idempotency._keep(row, {"late": False})
    assert KeptAnswer.objects.get().body == {"late": False}


# --- at the same instant -------------------------------------------------------------------------


def at_once(*asks: Callable[[], Any]) -> list[Any]:
    """Each in a thread with its own connection; what they return, in order."""
    results: list[Any] = [None] * len(asks)
    gate = threading.Barrier(len(asks))

    def run(n: int) -> None:
        gate.wait()
        try:
            results[n] = asks[n]()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_ten_at_once_start_one_job(api: ApiClient, started: list[Job]) -> None:
    answers = at_once(*[lambda: download(ApiClient(api.token)) for _ in range(10)])
    accepted = [answer for answer in answers if "job_id" in answer]
    assert accepted and all(answer == accepted[0] for answer in accepted)
    assert {answer["code"] for answer in answers if "code" in answer} <= {"conflict"}
    assert len(started) == Sae.objects.count() == KeptAnswer.objects.count() == 1


def test_ten_at_once_that_fail_leave_nothing(api: ApiClient) -> None:
    def ask() -> Any:
        return download(ApiClient(api.token), repo_id="me/nothing")

    answers = at_once(*[ask for _ in range(10)])
    assert {answer["code"] for answer in answers} <= {"conflict", "repository_not_found"}
    assert not KeptAnswer.objects.exists()


def test_the_second_is_told_that_the_first_is_at_work(api: ApiClient, hub: LocalHub) -> None:
    hub.faults.add("/api/", faults.stall(0, 1.5), times=1)
    first: list[Any] = []
    thread = threading.Thread(target=lambda: first.extend(at_once(lambda: download(api))))
    thread.start()
    wait_for(KeptAnswer.objects.exists)
    second = ApiClient(api.token)
    assert (download(second)["code"], second.status) == ("conflict", 409)
    thread.join()
    assert download(second) == first[0]


def test_a_row_that_goes_between_two_looks_is_no_crash(
    owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """get_or_create: the other one's row is in the way of the insert, and gone for the look."""

    def unlucky(**wanted: Any) -> None:
        raise IntegrityError("in the way")

    request = RequestFactory().post("/api/v1/saes/download", b"{}", "application/json")
    request.user = person("ann", "editor")
    monkeypatch.setattr(KeptAnswer.objects, "get_or_create", unlucky)
    with pytest.raises(Conflict):
        idempotency._row(request, "key")
