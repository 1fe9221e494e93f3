"""The socket of pages: who may open it, and what it says."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.conf import settings as configured
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from pytest_django import Settings

from mistudio.asgi import application
from saes import accounts, api_tokens, moves, roles, services, steering
from saes.consumers import live, pages, visitors
from saes.models import Job, Publication, Published, Sae
from saes.progress import Stage
from saes.recorder import JobReporter, nudge
from tests.sockets import Line, program, with_token

pytestmark = pytest.mark.django_db(transaction=True)
BACKEND = "django.contrib.auth.backends.ModelBackend"
HOME = "http://localhost:8000"
Headers = list[tuple[bytes, bytes]]
Open = Callable[..., Awaitable[Line]]


@pytest.fixture(autouse=True)
def data_dir(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path


def cookie_of(user: User) -> str:
    client = Client()
    client.force_login(user, backend=BACKEND)
    return (
        f"{configured.SESSION_COOKIE_NAME}={client.cookies[configured.SESSION_COOKIE_NAME].value}"
    )


@pytest.fixture
def cookie(transactional_db: None) -> str:
    return cookie_of(accounts.ensure_owner())


@pytest.fixture
def sae(transactional_db: None) -> Sae:
    return Sae.objects.create(name="an SAE", source=Sae.Source.HUGGINGFACE)


@pytest.fixture
def job(sae: Sae) -> Job:
    Job.objects.create(kind=Job.Kind.DOWNLOAD, sae=sae, id="job_000000000001")
    claimed = Job.objects.claim("job_000000000001", "elsewhere 1 1")
    assert claimed is not None
    return claimed


def headers(
    cookie: str = "", origin: str | None = HOME, host: str | None = "localhost:8000"
) -> Headers:
    made = {b"cookie": cookie, b"origin": origin, b"host": host}
    return [(name, value.encode()) for name, value in made.items() if value is not None]


def to(path: str, sent: Headers) -> Line:
    return Line(application, path, headers=sent)


@pytest.fixture
async def sockets(cookie: str) -> AsyncIterator[Open]:
    """Opens sockets as the owner's browser does, and closes them at the end."""
    opened: list[Line] = []

    async def connect(*ids: str) -> Line:
        query = "&".join(f"{it.partition('_')[0]}={it}" for it in ids)
        made = to(f"/ws/pages/?{query}", headers(cookie))
        opened.append(made)
        assert (await made.connect())[0]
        return made

    yield connect
    for one in opened:
        await one.disconnect()


async def is_let_in(path: str, sent: Headers) -> bool:
    socket = to(path, sent)
    answer, _ = await socket.connect()
    await socket.disconnect()
    return bool(answer)


# --- who may open it ------------------------------------------------------------------------------

FOREIGN = [
    {"origin": "http://evil.example"}, {"origin": "http://localhost:9000"}, {"origin": "null"},
    {"origin": None}, {"origin": ""}, {"origin": "https://localhost:8000"},
    {"origin": "http://localhost"}, {"origin": "http://localhost:8000.evil.example"},
    {"origin": "http://evil.example#http://localhost:8000"}, {"origin": "http://127.0.0.1:8000"},
    {"origin": "http://localhost:8000/"}, {"origin": "file://"},
    {"host": "evil.example", "origin": "http://evil.example"},
    {"host": "evil.example:8000", "origin": "http://evil.example:8000"},
    {"host": "localhost.evil.example", "origin": "http://localhost.evil.example"},
    {"host": None}, {"host": "", "origin": "http://"}, {"host": None, "origin": None},
]  # fmt: skip


@pytest.mark.parametrize("wrong", FOREIGN, ids=str)
async def test_a_foreign_page_opens_no_socket(cookie: str, wrong: dict[str, str | None]) -> None:
    assert not await is_let_in("/ws/pages/", headers(cookie, **wrong))


async def test_an_anonymous_visitor_opens_no_socket(cookie: str, sae: Sae) -> None:
    name = cookie.split("=")[0]
    for wrong in ("", f"{name}=", f"{name}=forged", "other=1", f"{name}={'a' * 32}"):
        assert not await is_let_in(f"/ws/pages/?sae={sae.id}", headers(wrong))


async def test_the_own_page_opens_one_under_every_allowed_name(cookie: str) -> None:
    for host in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:8000"):
        assert await is_let_in("/ws/pages/", headers(cookie, f"http://{host}".lower(), host))


async def test_the_public_address_counts_with_its_port(cookie: str, settings: Settings) -> None:
    settings.PUBLIC_URL, settings.HTTPS = "https://lab.example:8443", True
    settings.ALLOWED_HOSTS = ["localhost", "lab.example"]
    host = "lab.example:8443"
    assert await is_let_in("/ws/pages/", headers(cookie, "https://lab.example:8443", host))
    for origin in ("https://lab.example", "http://lab.example", "https://lab.example:8444"):
        assert not await is_let_in("/ws/pages/", headers(cookie, origin, host))


@pytest.mark.parametrize("https", [True, False])
async def test_the_scheme_is_that_which_people_use(
    cookie: str, settings: Settings, https: bool
) -> None:
    settings.HTTPS = https
    for scheme in ("http", "https"):
        let_in = await is_let_in("/ws/pages/", headers(cookie, f"{scheme}://localhost:8000"))
        assert let_in == (https == (scheme == "https")), scheme


def _sign_out() -> None:
    Session.objects.all().delete()


def _deactivate() -> None:
    User.objects.update(is_active=False)


@pytest.mark.parametrize("lock_out", [_sign_out, _deactivate])
async def test_whoever_is_locked_out_hears_no_more_once_the_minute_is_over(
    sockets: Open, sae: Sae, monkeypatch: pytest.MonkeyPatch, lock_out: Callable[[], None]
) -> None:
    assert live.CHECK_EVERY == 60
    monkeypatch.setattr(live, "CHECK_EVERY", 0.3)
    socket = await sockets(sae.id)
    await socket.receive_from()
    await database_sync_to_async(lock_out)()
    assert await socket.receive_output() == {"type": "websocket.close", "code": 4401}
    await database_sync_to_async(nudge)(sae.id)
    assert await socket.receive_nothing()


async def test_a_role_that_was_taken_away_shows_after_the_minute(
    sae: Sae, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def somebody() -> str:
        user = User.objects.create_user("erin")
        user.groups.add(Group.objects.get(name=roles.EDITOR))
        Job.objects.update(created_by=user)
        return cookie_of(user)

    monkeypatch.setattr(live, "CHECK_EVERY", 0.3)
    socket = to(f"/ws/pages/?sae={sae.id}", headers(await database_sync_to_async(somebody)()))
    assert (await socket.connect())[0]
    text = await socket.receive_from()
    assert "/cancel/" in text
    await database_sync_to_async(Group.objects.all().delete)()
    assert await socket.receive_nothing(0.5)
    while "/cancel/" in text:  # of a busy machine the minute may be longer
        await database_sync_to_async(nudge)(sae.id)
        if not await socket.receive_nothing(0.3):
            text = await socket.receive_from()
    await socket.disconnect()


async def test_pages_and_programs_share_the_seats_of_a_user(
    cookie: str, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await database_sync_to_async(User.objects.get)()
    _, token = await database_sync_to_async(api_tokens.create)(owner, "a test")
    monkeypatch.setattr(visitors, "MOST_SOCKETS", 1)
    path = f"/ws/pages/?sae={sae.id}"
    async with program(with_token(token)):
        late = to(path, headers(cookie))
        assert (await late.connect())[0]  # so that it learns why, and the page asks now and then
        assert await late.receive_output() == {"type": "websocket.close", "code": 4429}
        await late.disconnect()
    socket = to(path, headers(cookie))
    await socket.connect()
    assert f'id="card-{sae.id}"' in await socket.receive_from()
    await socket.disconnect()
    assert visitors.SEATS.count(owner.pk) == 0


async def test_a_host_that_is_not_allowed_is_refused_whatever_the_origin(
    cookie: str, settings: Settings
) -> None:
    settings.PUBLIC_URL, settings.HTTPS = "https://lab.example", True
    settings.ALLOWED_HOSTS = ["lab.example"]
    assert not await is_let_in("/ws/pages/", headers(cookie, "https://lab.example", "evil.example"))


@pytest.mark.parametrize(
    "path", ["/", "/ws", "/ws//", "/ws/pages", "/ws/other/", "/admin/", "/ws/pages/x/"]
)
async def test_an_unknown_address_is_refused_without_a_traceback(
    cookie: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not await is_let_in(path, headers(cookie))
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "query",
    [
        "",
        "sae=",
        "sae=none",
        "sae=../..",
        "sae=%00",
        "sae=%ff",
        "x=1",
        "sae=<b>",
        "&&&",
        "sae=a;b",
        "job=%00",
        "job=none",
        "publication=%00",
        "publication=none",
    ],
)
async def test_nothing_to_watch_is_no_error(cookie: str, query: str) -> None:
    assert await is_let_in(f"/ws/pages/?{query}", headers(cookie))


# --- what it says ---------------------------------------------------------------------------------


async def test_the_present_state_comes_first(sockets: Open, sae: Sae, job: Job) -> None:
    socket = await sockets(sae.id)
    text = await socket.receive_from()
    assert f'id="card-{sae.id}"' in text
    assert 'hx-swap-oob="morph"' in text
    assert 'data-active="yes"' in text
    assert await socket.receive_nothing()


async def test_a_nudge_brings_the_row_as_it_is_now(sockets: Open, sae: Sae, job: Job) -> None:
    socket = await sockets(sae.id)
    await socket.receive_from()
    reporter = JobReporter(job)
    await database_sync_to_async(reporter.say)(Stage.DOWNLOADING, "Downloading", file="a.npz")
    text = await socket.receive_from()
    assert "a.npz" in text
    assert 'data-state="downloading"' in text


async def test_versions_never_go_backward(sockets: Open, sae: Sae, job: Job) -> None:
    socket = await sockets(sae.id)
    reporter = JobReporter(job)
    for done in range(5):
        await database_sync_to_async(reporter.say)(Stage.DOWNLOADING, f"part {done}")
    await database_sync_to_async(moves.cancel)([job.id])
    texts = [await socket.receive_from()]
    while "Cancelled" not in texts[-1]:
        texts.append(await socket.receive_from())
    versions = [int(re.findall(r'data-version="(\d+)"', text)[0]) for text in texts]
    assert versions == sorted(set(versions))


async def test_many_changes_at_once_are_few_cards_and_the_last_is_the_newest(
    sockets: Open, sae: Sae, job: Job
) -> None:
    socket = await sockets(sae.id)
    reporter, began = JobReporter(job), time.monotonic()
    for number in range(60):
        await database_sync_to_async(reporter.say)(Stage.DOWNLOADING, f"part {number}.")
    took = time.monotonic() - began
    texts = [await socket.receive_from()]
    while "part 59." not in texts[-1]:
        texts.append(await socket.receive_from())
    assert len(texts) <= 5 * took + 3
    assert await socket.receive_nothing()


async def test_nothing_is_read_for_a_client_that_does_not_take_it(
    sockets: Open, sae: Sae, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    full, draw = True, pages._card

    def noted(sae_id: str, viewer: User) -> str:
        drawn.append(sae_id)
        return draw(sae_id, viewer)

    monkeypatch.setattr(pages, "_card", noted)
    monkeypatch.setattr(live, "has_backlog", lambda send: full)
    socket = await sockets(sae.id)
    reporter = JobReporter(job)
    for number in range(5):
        await database_sync_to_async(reporter.say)(Stage.DOWNLOADING, f"part {number}.")
    assert await socket.receive_nothing(0.5)
    assert drawn == []
    full = False
    assert "part 4." in await socket.receive_from()
    assert drawn == [sae.id]


async def test_a_client_that_takes_nothing_for_a_minute_is_hung_up_on(
    sockets: Open, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PATIENCE", 0.3)
    monkeypatch.setattr(live, "has_backlog", lambda send: True)
    socket = await sockets(sae.id)
    assert await socket.receive_output() == {"type": "websocket.close", "code": 4408}


async def test_a_database_that_is_busy_is_asked_again(
    sockets: Open, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles, draw = [OperationalError("database is locked")], pages._card

    def drawn(sae_id: str, viewer: User) -> str:
        if troubles:
            raise troubles.pop()
        return draw(sae_id, viewer)

    monkeypatch.setattr(pages, "_card", drawn)
    socket = await sockets(sae.id)
    assert f'id="card-{sae.id}"' in await socket.receive_from()


async def test_only_what_is_watched_is_told(sockets: Open, sae: Sae) -> None:
    other = await database_sync_to_async(Sae.objects.create)(name="other", source="local")
    socket = await sockets(sae.id)
    await socket.receive_from()
    await database_sync_to_async(nudge)(other.id)
    assert await socket.receive_nothing()


async def test_a_deleted_sae_is_gone(sockets: Open, sae: Sae) -> None:
    sae_id = sae.id
    socket = await sockets(sae_id)
    await socket.receive_from()
    await database_sync_to_async(steering.delete_sae)(None, sae, keep_files=False)
    text = await socket.receive_from()
    assert 'data-state="gone"' in text
    assert f'id="card-{sae_id}"' in text


async def test_an_sae_deleted_during_its_job_is_gone_too(sockets: Open, sae: Sae, job: Job) -> None:
    socket = await sockets(sae.id)
    await database_sync_to_async(steering.delete_sae)(None, sae, keep_files=False)
    texts = [await socket.receive_from()]
    while 'data-state="gone"' not in texts[-1]:
        texts.append(await socket.receive_from())
    assert len(texts) <= 4


@pytest.mark.parametrize("frame", ["hello", '{"HEADERS": {}}', "x" * 2**20])
async def test_a_page_that_talks_is_hung_up_on(sockets: Open, sae: Sae, frame: str) -> None:
    socket = await sockets(sae.id)
    await socket.receive_from()
    await socket.send_to(text_data=frame)
    assert (await socket.receive_output())["type"] == "websocket.close"


async def test_bytes_are_hung_up_on_too(sockets: Open) -> None:
    socket = await sockets()
    await socket.send_to(bytes_data=b"\x00")
    assert (await socket.receive_output())["type"] == "websocket.close"


# --- rows of jobs ---------------------------------------------------------------------------------


async def test_a_job_is_told_as_its_row_and_so_is_its_end(sockets: Open, job: Job) -> None:
    socket = await sockets(job.id)
    text = await socket.receive_from()
    assert f'id="{job.id}" hx-swap-oob="morph"' in text and 'data-state="running"' in text
    await database_sync_to_async(moves.pause)([job.id])
    assert 'data-state="paused"' in await socket.receive_from()
    assert await socket.receive_nothing()


async def test_every_frame_says_how_many_jobs_are_at_work(sockets: Open, job: Job) -> None:
    socket = await sockets(job.id)
    count = '<span class="nav-count" id="nav-count" hx-swap-oob="true">{}</span>'
    assert count.format(1) in await socket.receive_from()
    await database_sync_to_async(moves.cancel)([job.id])
    assert count.format("") in await socket.receive_from()


async def test_versions_of_a_row_never_go_backward(sockets: Open, job: Job) -> None:
    socket = await sockets(job.id)
    reporter = JobReporter(job)
    for done in range(5):
        await database_sync_to_async(reporter.say)(Stage.DOWNLOADING, f"part {done}")
    await database_sync_to_async(moves.cancel)([job.id])
    texts = [await socket.receive_from()]
    while 'data-state="cancelled"' not in texts[-1]:
        texts.append(await socket.receive_from())
    versions = [int(re.findall(r'data-version="(\d+)"', text)[0]) for text in texts]
    assert versions == sorted(set(versions))


async def test_card_and_row_can_be_watched_at_once(sockets: Open, sae: Sae, job: Job) -> None:
    socket = await sockets(sae.id, job.id)
    texts = await socket.receive_from() + await socket.receive_from()
    assert f'id="card-{sae.id}"' in texts and f'id="{job.id}"' in texts


async def test_the_job_of_a_deleted_sae_is_gone(sockets: Open, sae: Sae, job: Job) -> None:
    job_id, socket = job.id, await sockets(job.id)
    await socket.receive_from()
    await database_sync_to_async(steering.delete_sae)(None, sae, keep_files=False)
    texts = [await socket.receive_from()]
    while 'data-state="gone"' not in texts[-1]:
        texts.append(await socket.receive_from())
    assert f'id="{job_id}"' in texts[-1]


def _cookie_of_an_editor() -> str:
    user = User.objects.create_user("erin")
    user.groups.add(Group.objects.get(name=roles.EDITOR))
    return cookie_of(user)


async def test_rows_of_others_are_not_told(sae: Sae, job: Job) -> None:
    cookie = await database_sync_to_async(_cookie_of_an_editor)()
    socket = to(f"/ws/pages/?job={job.id}&job=none", headers(cookie))
    assert (await socket.connect())[0]
    await database_sync_to_async(nudge)(sae.id)
    assert await socket.receive_nothing()
    await socket.disconnect()


def _many(count: int) -> list[str]:
    made = Sae.objects.bulk_create(Sae(name=f"{n}", source="local") for n in range(count))
    return [sae.id for sae in made]


async def test_at_most_a_hundred_are_watched(sockets: Open) -> None:
    ids = await database_sync_to_async(_many)(120)
    socket = await sockets(*ids[:60], *ids[:60], *ids)
    told = set()
    for _ in range(100):
        told |= set(re.findall(r'id="card-(\w+)"', await socket.receive_from()))
    assert told == set(ids[:100])
    assert await socket.receive_nothing()


async def test_after_a_socket_is_closed_nothing_is_sent_to_it(
    sockets: Open, sae: Sae, caplog: pytest.LogCaptureFixture
) -> None:
    socket = await sockets(sae.id)
    await socket.receive_from()
    await socket.disconnect()
    await database_sync_to_async(nudge)(sae.id)
    assert "Traceback" not in caplog.text


async def test_text_of_others_is_escaped_on_the_socket(sockets: Open, sae: Sae) -> None:
    def rename(text: str) -> None:
        services.edit(sae, name=text, description="", notes="", tags=[])
        Sae.objects.update(status="error", error_message=text, error_solution=text)

    await database_sync_to_async(rename)("<img src=x onerror=alert(1)>")
    socket = await sockets(sae.id)
    assert "<img" not in await socket.receive_from()


async def test_many_sockets_at_once_are_all_told(sockets: Open, sae: Sae) -> None:
    all_of_them = [await sockets(sae.id) for _ in range(20)]
    for socket in all_of_them:
        await socket.receive_from()
    await database_sync_to_async(nudge)(sae.id)
    texts: list[Any] = [await socket.receive_from() for socket in all_of_them]
    assert len(set(texts)) == 1


# --- publications ---------------------------------------------------------------------------------


@pytest.fixture
def publishing(sae: Sae) -> Job:
    """A running job that publishes, for nobody's account."""
    row = Publication.objects.create(id="publication_1", repo_id="alice/secret")
    Published.objects.create(publication=row, sae=sae, name=sae.name, folder="layer_0")
    Job.objects.create(kind=Job.Kind.PUBLISH, sae=sae, id="job_000000000002", publication=row)
    claimed = Job.objects.claim("job_000000000002", "elsewhere 1 1")
    assert claimed is not None
    return claimed


async def test_a_publication_is_told_as_its_page_shows_it(sockets: Open, publishing: Job) -> None:
    socket = await sockets("publication_1")
    text = await socket.receive_from()
    assert 'id="publication_1"' in text and 'hx-swap-oob="morph"' in text
    reporter = JobReporter(publishing)
    await database_sync_to_async(reporter.say)(Stage.UPLOADING, "Uploading", file="cfg.json")
    text = await socket.receive_from()
    assert "Uploading" in text and "cfg.json" in text


async def test_a_publication_that_was_deleted_is_said_to_be(sockets: Open, publishing: Job) -> None:
    socket = await sockets("publication_1")
    await socket.receive_from()
    await database_sync_to_async(Publication.objects.all().delete)()
    await database_sync_to_async(nudge)(publishing.sae_id)
    assert "Deleted" in await socket.receive_from()


async def test_nobody_else_hears_of_a_publication(publishing: Job) -> None:
    def editor() -> str:
        user = User.objects.create_user("erin")
        user.groups.add(Group.objects.get(name=roles.EDITOR))
        return cookie_of(user)

    sent = headers(await database_sync_to_async(editor)())
    socket = to("/ws/pages/?publication=publication_1", sent)
    assert (await socket.connect())[0]
    await database_sync_to_async(nudge)(publishing.sae_id)
    assert await socket.receive_nothing()
    await socket.disconnect()
