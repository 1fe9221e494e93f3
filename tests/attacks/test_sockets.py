"""Sockets: foreign pages and names, strangers, floods, and what one user hears of another."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone
from pytest_django import Settings

from saes import accounts, api_tokens, jobs, queueing, roles, vault
from saes.consumers import live, visitors
from saes.models import ApiToken, HubToken, Job, Sae
from saes.progress import Stage
from saes.recorder import JobReporter, nudge
from tests.api.conftest import person
from tests.sockets import HOME, HOST, cookie_of, headers, is_let_in, program, with_token

pytestmark = pytest.mark.django_db(transaction=True)
aside = database_sync_to_async
FOREIGN = (
    "https://evil", "http://evil.example", "null", "", "http://localhost.evil.example:8000",
    "http://localhost:8000.evil.example", "http://localhost:9000", "https://localhost:8000",
    "http://localhost", "http://evil.example#http://localhost:8000", "http://127.0.0.1:8000",
    "http://localhost:8000/", "file://", "chrome-extension://abc",
)  # fmt: skip


@pytest.fixture(autouse=True)
def place(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)


@pytest.fixture
def owner(transactional_db: None) -> User:
    return accounts.ensure_owner()


@pytest.fixture
def token(owner: User) -> str:
    return api_tokens.create(owner, "a test")[1]


@pytest.fixture
def cookie(owner: User) -> str:
    return cookie_of(owner)


@pytest.fixture
def sae(transactional_db: None) -> Sae:
    return Sae.objects.create(name="an SAE", source=Sae.Source.HUGGINGFACE)


# --- S32: foreign pages, and strangers ------------------------------------------------------------


@pytest.mark.parametrize("origin", [*FOREIGN, None], ids=str)
async def test_a_foreign_page_cannot_ride_on_a_session(cookie: str, origin: str | None) -> None:
    assert not await is_let_in(headers(cookie=cookie, origin=origin))
    assert await is_let_in(headers(cookie=cookie, origin=HOME))


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_token_does_not_open_the_door_to_a_foreign_page(token: str, origin: str) -> None:
    bearer = f"Bearer {token}"
    assert not await is_let_in(headers(authorization=bearer, origin=origin))
    assert await is_let_in(headers(authorization=bearer, origin=HOME))
    assert await is_let_in(headers(authorization=bearer))


@pytest.mark.parametrize(
    "said",
    ["", "Bearer", "Bearer ", "Bearer mis_wrong", "Basic b3duZXI6b3duZXI=", "Token {}", "{}",
     "Bearer {}x", "Bearer hf_{}", "Bearer {}, Bearer {}", "Bearer \u00ff"],
)  # fmt: skip
async def test_a_wrong_token_is_refused_even_beside_a_session(
    token: str, cookie: str, said: str
) -> None:
    authorization = said.format(token, token)
    assert not await is_let_in(headers(authorization=authorization))
    assert not await is_let_in(headers(authorization=authorization, cookie=cookie, origin=HOME))


async def test_a_stranger_is_refused(cookie: str) -> None:
    name = cookie.split("=")[0]
    for wrong in (None, "", f"{name}=", f"{name}=forged", f"{name}={'a' * 32}", "other=1"):
        assert not await is_let_in(headers(cookie=wrong, origin=HOME))
        assert not await is_let_in(headers(cookie=wrong))


async def test_a_token_in_the_address_is_none(token: str) -> None:
    for query in (f"token={token}", f"access_token={token}", f"authorization=Bearer%20{token}"):
        assert not await is_let_in(headers(origin=HOME), f"/ws/?{query}")


async def test_a_token_opens_no_socket_of_pages(token: str) -> None:
    assert not await is_let_in(with_token(token), "/ws/pages/")


def _spoil(token: str, how: str) -> None:
    row = ApiToken.objects.get(digest=api_tokens._digest(token))
    if how == "revoked":
        api_tokens.revoke(row.owner, row.id)
    elif how == "expired":
        ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    elif how == "deleted":
        row.delete()
    else:
        User.objects.update(is_active=False)


SPOILT = ("revoked", "expired", "deleted", "its user was deactivated")


@pytest.mark.parametrize("how", SPOILT)
async def test_a_token_that_is_no_longer_good_opens_nothing(token: str, how: str) -> None:
    await aside(_spoil)(token, how)
    assert not await is_let_in(with_token(token))


@pytest.mark.parametrize("how", SPOILT)
async def test_and_who_was_in_already_subscribes_no_more(token: str, how: str, sae: Sae) -> None:
    async with program(with_token(token)) as visitor:
        await aside(_spoil)(token, how)
        await visitor.ask("subscribe", f"sae/{sae.id}/download")
        assert await visitor.end() == 4401
        (said,) = visitor.heard
        assert said["event"] == "error" and said["code"] == "bad_api_token"


@pytest.mark.parametrize("how", SPOILT)
async def test_and_hears_no_more_once_the_minute_is_over(
    token: str, how: str, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CHECK_EVERY", 0.3)
    async with program(with_token(token)) as visitor:
        await visitor.subscribe("sae/*")
        await aside(_spoil)(token, how)
        assert await visitor.end() == 4401  # without a frame of theirs, or an event


async def test_a_session_that_was_signed_out_hears_no_more(
    cookie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CHECK_EVERY", 0.3)
    async with program(headers(cookie=cookie, origin=HOME)) as visitor:
        await visitor.subscribe("sae/*")
        await aside(Session.objects.all().delete)()
        assert await visitor.end() == 4401
        assert visitor.heard[-1]["code"] == "not_signed_in"


async def test_nor_does_one_whose_password_was_changed(cookie: str, owner: User) -> None:
    def change() -> None:
        owner.set_password("another")
        owner.save()

    async with program(headers(cookie=cookie, origin=HOME)) as visitor:
        await aside(change)()
        await visitor.ask("subscribe", "sae/*")
        assert await visitor.end() == 4401


# --- S32: what others do --------------------------------------------------------------------------


async def test_the_work_of_others_is_told_without_their_names_and_tokens(
    owner: User, sae: Sae
) -> None:
    def begin() -> tuple[Job, HubToken]:
        other = person("mallory_secretname", roles.EDITOR)
        hub_token = vault.keep(other, "hf_mallorysecret9876")
        job = Job(kind=Job.Kind.DOWNLOAD, sae=sae, created_by=other, token=hub_token)
        jobs.start(job)
        claimed = Job.objects.claim(job.id, "hostname.example 1 1")
        assert claimed is not None
        return claimed, hub_token

    viewer = await aside(person)("vera", roles.VIEWER)
    _, token = await aside(api_tokens.create)(viewer, "named for mallory")
    job, _ = await aside(begin)()
    async with program(with_token(token)) as visitor:
        await visitor.subscribe("sae/*", f"sae/{sae.id}/*")
        await aside(JobReporter(job).say)(Stage.DOWNLOADING, "Fetching")
        await visitor.hear_until(detail="Fetching")
        assert await visitor.hears_nothing()
    everything = json.dumps(visitor.heard)
    assert visitor.told
    for secret in ("mallory", "vera", "9876", "hostname", job.lease, "created_by", "token"):
        assert secret not in everything


# --- S32: too much --------------------------------------------------------------------------------


def _many(count: int) -> list[str]:
    made = Sae.objects.bulk_create(Sae(name=f"{n}", source="local") for n in range(count))
    return [f"sae/{sae.id}/upload" for sae in made]


async def test_ten_thousand_subscriptions_are_a_thousand(token: str) -> None:
    channels = await aside(_many)(10_000)
    async with program(with_token(token)) as visitor:
        answers = []
        for start in range(0, 10_000, 1000):
            answers.append((await visitor.subscribe(*channels[start : start + 1000]))[-1])
        assert [len(answer["channels"]) for answer in answers] == [1000] + [0] * 9
        errors = [frame for frame in visitor.heard if frame["event"] == "error"]
        assert len(errors) == 9
        assert "1000 subscriptions: 1000 were not added" in errors[0]["detail"]
        await visitor.ask("unsubscribe", channels[0])
        while (await visitor.hear())["event"] != "unsubscribed":
            continue
        assert (await visitor.subscribe(channels[9999]))[-1]["channels"] == [channels[9999]]


@pytest.mark.parametrize("size", [64 * 1024 + 1, 10_000_000])
async def test_a_frame_that_is_too_long_ends_the_socket(token: str, size: int) -> None:
    for kind in ("text_data", "bytes_data"):
        async with program(with_token(token)) as visitor:
            frame = "x" * size if kind == "text_data" else bytes(size)
            await visitor.line.send_to(**{kind: frame})
            assert await visitor.end() == 4413
            assert len(visitor.heard) == 1 and "65536 bytes" in visitor.heard[0]["detail"]


async def test_length_is_counted_in_bytes(token: str) -> None:
    async with program(with_token(token)) as visitor:
        await visitor.line.send_to(text_data="\u20ac" * 22_000)
        assert await visitor.end() == 4413


async def test_a_frame_of_the_longest_length_is_read(token: str) -> None:
    async with program(with_token(token)) as visitor:
        frame = json.dumps({"action": "subscribe", "channels": ["sae/*"], "id": "x" * 100})
        await visitor.line.send_to(text_data=frame.ljust(64 * 1024))
        assert (await visitor.hear())["event"] == "subscribed"


async def test_a_flood_of_frames_ends_the_socket(token: str) -> None:
    async with program(with_token(token)) as visitor:
        for _ in range(5000):
            await visitor.ask("unsubscribe", "sae/*")
        assert await visitor.end() == 4429
        assert visitor.heard[-1]["code"] == "rate_limited"
        assert len(visitor.heard) < 1000


async def test_a_megabyte_of_waiting_frames_ends_the_socket(token: str) -> None:
    frame = json.dumps({"action": "unsubscribe", "channels": ["sae/*"]}).ljust(64 * 1024)
    async with program(with_token(token)) as visitor:
        for _ in range(100):
            await visitor.line.send_to(text_data=frame)
        assert await visitor.end() == 4429


async def test_a_hundred_frames_of_nonsense_end_the_socket(token: str) -> None:
    async with program(with_token(token)) as visitor:
        for _ in range(101):
            await visitor.line.send_to(text_data="nonsense")
        assert await visitor.end() == 4400
        assert len(visitor.heard) == 101


async def test_what_comes_after_the_end_is_not_answered(token: str, sae: Sae) -> None:
    async with program(with_token(token)) as visitor:
        await visitor.subscribe(f"sae/{sae.id}/download")
        await visitor.hear()
        await visitor.line.send_to(text_data="x" * 70_000)
        await visitor.ask("subscribe", "sae/*")
        assert await visitor.end() == 4413
        await aside(Sae.objects.update)(status="ready")
        await aside(nudge)(sae.id)
        assert await visitor.hears_nothing()


async def test_a_client_that_takes_nothing_for_a_minute_is_hung_up_on(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert live.PATIENCE == 60
    monkeypatch.setattr(live, "PATIENCE", 0.3)
    monkeypatch.setattr(live, "has_backlog", lambda send: True)
    async with program(with_token(token)) as visitor:
        await visitor.ask("subscribe", "sae/*")
        assert await visitor.end() == 4408
        assert [frame["event"] for frame in visitor.heard] == ["error"]


async def test_nobody_has_more_than_fifty_sockets_and_each_that_ends_is_free_again(
    owner: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visitors.MOST_SOCKETS == 50
    monkeypatch.setattr(visitors, "MOST_SOCKETS", 2)
    async with program(with_token(token)):
        async with program(with_token(token)) as last:
            async with program(with_token(token)) as too_many:
                assert await too_many.end() == 4429
                assert "sockets of yours are open" in too_many.heard[0]["detail"]
            assert (await last.subscribe("sae/*"))[-1]["channels"] == ["sae/*"]
        async with program(with_token(token)) as again:
            assert (await again.subscribe("sae/*"))[-1]["channels"] == ["sae/*"]
            _, others = await aside(api_tokens.create)(await aside(person)("vera", "viewer"), "")
            async with program(with_token(others)) as other:
                assert await other.subscribe("sae/*")
    assert visitors.SEATS.count(owner.pk) == 0


# --- S33: other names of this host ----------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "localhost.evil.example:8000",
     "", None, "localhost@evil.example", "169.254.169.254", "*", "localhost:8000, evil.example"],
    ids=str,
)  # fmt: skip
async def test_a_name_that_is_not_ours_is_refused(
    token: str, cookie: str, host: str | None
) -> None:
    bearer = f"Bearer {token}"
    assert not await is_let_in(headers(host=host, authorization=bearer))
    assert not await is_let_in(headers(host=host, authorization=bearer, origin=f"http://{host}"))
    assert not await is_let_in(headers(host=host, cookie=cookie, origin=f"http://{host}"))


async def test_headers_of_proxies_change_nothing(token: str, cookie: str) -> None:
    spoof = {"x-forwarded-host": HOST, "x-forwarded-proto": "https"}
    bearer = f"Bearer {token}"
    assert not await is_let_in(headers(host="evil.example", authorization=bearer, **spoof))
    spoof["x-forwarded-host"] = "evil.example"
    assert not await is_let_in(headers(cookie=cookie, origin="https://evil.example", **spoof))
    assert await is_let_in(headers(cookie=cookie, origin=HOME, **spoof))
