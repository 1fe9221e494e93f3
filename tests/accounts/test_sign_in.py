"""The door: links that work once, passwords, and what happens after too many failures."""

import re
import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.signing import TimestampSigner
from django.db import connection
from django.test import Client
from pytest_django import Settings

from saes import accounts
from saes.models import SignInLink

PASSWORD = "a long enough secret"


@pytest.fixture
def owner(db: None) -> User:
    user = accounts.ensure_owner()
    user.set_password(PASSWORD)
    user.save()
    return user


def path_of(link: str) -> str:
    return "/" + link.split("/", 3)[3]


def is_signed_in(client: Client) -> bool:
    return client.get("/hub/").status_code == 200


def test_the_owner_is_a_superuser_without_a_password(db: None) -> None:
    user = accounts.ensure_owner()
    assert user.is_superuser and user.is_staff and user.username == "owner"
    assert not user.has_usable_password()
    assert accounts.ensure_owner() == user
    for password in ("", "owner", "None"):
        client = Client()
        client.post("/sign-in/", {"username": "owner", "password": password})
        assert not is_signed_in(client)


def test_looking_at_a_link_shows_a_button_and_does_not_use_it_up(owner: User) -> None:
    path, client = path_of(accounts.sign_in_url(owner)), Client()
    for _ in range(3):
        answer = client.get(path)
        assert answer.status_code == 200
        assert re.search(r'<form method="post">.*<button', answer.content.decode())
        assert "no-store" in answer["Cache-Control"]
    assert not is_signed_in(client)
    assert client.head(path).status_code == 405


def test_a_link_signs_in_once(owner: User) -> None:
    path, client = path_of(accounts.sign_in_url(owner)), Client()
    answer = client.post(path)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert is_signed_in(client)
    second = Client()
    assert second.post(path).status_code == 410
    assert second.get(path).status_code == 410
    assert not is_signed_in(second)


def test_a_sign_in_starts_a_new_session(owner: User) -> None:
    path, client = path_of(accounts.sign_in_url(owner)), Client()
    client.session["planted"] = True
    before = client.session.session_key
    client.post(path)
    assert client.session.session_key != before


def test_a_link_expires_after_ten_minutes(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    assert timedelta(minutes=10) == accounts.LINK_LIFETIME
    path = path_of(accounts.sign_in_url(owner))
    monkeypatch.setattr(accounts, "LINK_LIFETIME", timedelta(seconds=-1))
    client = Client()
    for answer in (client.get(path), client.post(path)):
        assert answer.status_code == 410
        assert "no longer works" in answer.content.decode()
    assert not is_signed_in(client)


def forged(link_id: str) -> list[str]:
    signer = TimestampSigner(salt="sign-in-link")
    name, stamp, signature = signer.sign(link_id).split(":")
    other = signature[:-1] + ("E" if signature.endswith("A") else "A")
    return [
        link_id, "x", f"{name}:{stamp}", f"{name}:{stamp}:{other}",
        f"{name}:zzzzzz:{signature}", TimestampSigner(salt="another").sign(link_id),
        TimestampSigner(key="k", salt="sign-in-link").sign(link_id), signer.sign("another"),
        "\0", "%00", "a" * 5000, ":::",
    ]  # fmt: skip


def test_a_forged_link_is_none(owner: User) -> None:
    link = SignInLink.objects.create(user=owner)
    client = Client()
    for signed in forged(link.id):
        assert client.post(f"/sign-in/{signed}/").status_code == 410, signed
        assert client.get(f"/sign-in/{signed}/").status_code == 410, signed
    assert not is_signed_in(client)
    link.refresh_from_db()
    assert link.used_at is None


def test_a_link_of_a_user_who_was_switched_off_opens_nothing(owner: User) -> None:
    path, client = path_of(accounts.sign_in_url(owner)), Client()
    User.objects.update(is_active=False)
    assert client.post(path).status_code == 410
    assert not is_signed_in(client)


def test_a_link_needs_the_forms_token(owner: User) -> None:
    path = path_of(accounts.sign_in_url(owner))
    assert Client(enforce_csrf_checks=True).post(path).status_code == 403
    assert Client().post(path).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_of_two_that_follow_a_link_at_once_one_is_let_in() -> None:
    link = accounts.sign_in_url(accounts.ensure_owner())
    start, won = threading.Barrier(2), []

    def follow() -> None:
        start.wait()
        won.append(accounts.use_link(path_of(link).split("/")[2]))
        connection.close()

    both = [threading.Thread(target=follow) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len([user for user in won if user]) == 1


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "public", "base"),
    [
        ("127.0.0.1", "", "http://127.0.0.1:8123"),
        ("0.0.0.0", "", "http://127.0.0.1:8123"),
        ("::", "", "http://[::1]:8123"),
        ("::1", "", "http://[::1]:8123"),
        ("lab.example", "", "http://lab.example:8123"),
        ("0.0.0.0", "https://lab.example", "https://lab.example"),
    ],
)
def test_the_link_leads_where_a_browser_finds_it(
    owner: User, settings: Settings, host: str, public: str, base: str
) -> None:
    settings.HOST, settings.PORT, settings.PUBLIC_URL = host, 8123, public
    assert accounts.sign_in_url(owner).startswith(f"{base}/sign-in/")


# --- passwords ------------------------------------------------------------------------------------


def test_a_password_signs_in_and_leads_on(owner: User) -> None:
    client = Client()
    form = {"username": "owner", "password": PASSWORD, "next": "/storage/"}
    assert client.post("/sign-in/", form)["Location"] == "/storage/"
    assert is_signed_in(client)
    assert client.post("/sign-out/")["Location"] == "/sign-in/"
    assert not is_signed_in(client)


def test_a_wrong_password_says_which_it_was_not(owner: User) -> None:
    for form in (
        {"username": "owner", "password": "wrong"},
        {"username": "nobody", "password": "wrong"},
    ):
        answer = Client().post("/sign-in/", form)
        assert answer.status_code == 200
        assert "The name or the password is wrong" in answer.content.decode()
        assert "wrong" not in re.findall(
            r'name="password"[^>]*value="([^"]*)"', answer.content.decode()
        )


def test_after_five_failures_the_door_stays_shut(owner: User) -> None:
    client = Client()
    codes = [
        client.post("/sign-in/", {"username": "owner", "password": "wrong"}).status_code
        for _ in range(6)
    ]
    assert codes == [200, 200, 200, 200, 429, 429]
    answer = client.post("/sign-in/", {"username": "owner", "password": PASSWORD})
    assert answer.status_code == 429
    assert "Locked for a while" in answer.content.decode()
    assert not is_signed_in(client)


def test_a_locked_door_shuts_out_no_other_address_and_no_link(owner: User) -> None:
    client = Client()
    for _ in range(6):
        client.post("/sign-in/", {"username": "owner", "password": "wrong"})
    elsewhere = Client(REMOTE_ADDR="10.0.0.9")
    assert (
        elsewhere.post("/sign-in/", {"username": "owner", "password": PASSWORD}).status_code == 302
    )
    assert client.post(path_of(accounts.sign_in_url(owner))).status_code == 302
    assert is_signed_in(client)


def test_an_address_that_is_only_claimed_opens_no_locked_door(owner: User) -> None:
    client = Client()
    codes = [
        client.post(
            "/sign-in/",
            {"username": "owner", "password": "wrong"},
            headers={"x-forwarded-for": f"10.0.0.{number}"},
        ).status_code
        for number in range(6)
    ]
    assert codes[-1] == 429


def test_strange_names_are_only_wrong(owner: User) -> None:
    for name in ("\0", "x" * 10_000, "<b>", "owner\n", "' or 1=1 --"):
        answer = Client().post("/sign-in/", {"username": name, "password": "x"})
        assert answer.status_code == 200
