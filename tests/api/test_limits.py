"""The rate limit: per user, whatever the token, and not across users."""

import threading
import time

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from saes.api import limits
from saes.errors import RateLimited
from tests.api.conftest import BASE, ApiClient, client_of
from tests.api.made import parsed

BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def three_a_minute(settings: Settings) -> None:
    settings.API_REQUESTS_PER_MINUTE = 3


def test_the_fourth_request_waits(api: ApiClient) -> None:
    assert ["data" in api.get("/saes") for _ in range(3)] == [True] * 3
    api.get("/saes")
    assert (api.status, parsed(api.last)["code"]) == (429, "rate_limited")
    assert 1 <= int(api.header("Retry-After")) <= 60


def test_what_is_not_there_counts_too(api: ApiClient) -> None:
    for path in ("/nothing", "/saes/none", "/openapi.json"):
        api.get(path)
    assert api.get("/saes")["code"] == "rate_limited"


def test_a_session_and_two_tokens_of_one_user_count_together(api: ApiClient, owner: User) -> None:
    client = Client()
    client.force_login(owner, backend=BACKEND)
    assert client.get(f"{BASE}/saes").status_code == 200
    assert "data" in client_of(owner).get("/saes")
    assert "data" in api.get("/saes")
    assert client.get(f"{BASE}/saes").status_code == 429
    assert api.get("/saes")["code"] == "rate_limited"


def test_another_user_goes_on(api: ApiClient, viewer: User) -> None:
    for _ in range(5):
        api.get("/saes")
    assert "data" in client_of(viewer).get("/saes")


def test_pages_are_not_limited(owner: User) -> None:
    client = Client()
    client.force_login(owner, backend=BACKEND)
    assert [client.get("/").status_code for _ in range(5)] == [200] * 5


def test_strangers_use_nothing_up(api: ApiClient) -> None:
    for _ in range(10):
        Client().get(f"{BASE}/saes")
        ApiClient("mis_wrong").get("/saes")
    assert "data" in api.get("/saes")


def test_after_a_minute_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for _ in range(3):
        limits.count(1)
        now[0] += 10
    with pytest.raises(RateLimited) as refused:
        limits.count(1)
    assert refused.value.retry_after == 30
    now[0] += 30
    limits.count(1)
    with pytest.raises(RateLimited):
        limits.count(1)


def test_users_who_ask_at_the_same_time_do_not_count_for_each_other(settings: Settings) -> None:
    settings.API_REQUESTS_PER_MINUTE = 200
    passed = dict.fromkeys(range(4), 0)

    def ask(user: int) -> None:
        for _ in range(300):
            try:
                limits.count(user)
            except RateLimited:
                continue
            passed[user] += 1

    threads = [threading.Thread(target=ask, args=(user,)) for user in passed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed == dict.fromkeys(range(4), 200)
