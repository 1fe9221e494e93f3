"""The queue's dashboard, on a real queue: for staff, with the form's token, and without secrets."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from mistudio.embedded_redis import find_server
from saes import roles
from tests.admin.conftest import signed_in, staff
from tests.apps import free_port, wait_for
from tests.views.test_doors import EVERYTHING

pytestmark = pytest.mark.django_db
DASHBOARD = "/admin/django_rq/dashboard/"
PASSWORD = "canary-of-the-queue"
ATTACK = "<img src=x onerror=alert(1)>"
PATHS = [path for path in EVERYTHING if path.startswith("/admin/django_rq/")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a queue with a password."""
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    process = subprocess.Popen(
        [find_server(), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD,
         "--dir", str(folder), "--save", ""],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}"
    wait_for(lambda: answers(url))
    yield url
    process.terminate()
    process.wait(60)


def answers(url: str) -> bool:
    with Redis.from_url(url) as connection:
        try:
            return bool(connection.ping())
        except RedisError:
            return False


@pytest.fixture
def queue(server: str, settings: Settings, tmp_path: Path) -> Iterator[Queue]:
    """With a job in it that somebody forged."""
    settings.RQ_QUEUES = {"sae": {**settings.RQ_QUEUES["sae"], "URL": server}}
    queue = Queue("sae", connection=Redis.from_url(server), serializer=JSONSerializer)
    queue.enqueue("os.mkdir", str(tmp_path / "made"), description=ATTACK, job_id="forged")
    yield queue
    queue.connection.flushall()
    queue.connection.close()


def places(queue: Queue) -> list[str]:
    """Every page of the dashboard, with its parameters filled in."""
    return [path.replace("/queues/1/", "/queues/0/").replace("/0/1/", "/0/forged/").replace(
        "confirm-action/1", "confirm-action/0").replace("actions/1", "actions/0")
        for path in PATHS]  # fmt: skip


def everything_in(queue: Queue) -> dict[Any, Any]:
    """Its jobs and their order; what workers and registries note of themselves changes anyway."""
    store = queue.connection
    jobs = {key: store.hgetall(key) for key in store.keys("rq:job:*")}
    return jobs | {"order": store.lrange(queue.key, 0, -1)}


def test_staff_see_the_queue_as_text_and_without_its_password(owner: User, queue: Queue) -> None:
    client = signed_in(owner)
    seen = []
    for path in places(queue):
        answer = client.get(path)
        if answer.status_code == 200:
            seen.append(path)
            text = answer.content.decode()
            assert PASSWORD not in text, path
            assert ATTACK not in text, path
    assert {DASHBOARD, f"{DASHBOARD}queues/0/", f"{DASHBOARD}queues/0/forged/"} <= set(seen)
    assert "os.mkdir" in client.get(f"{DASHBOARD}queues/0/forged/").content.decode()


def test_looking_changes_nothing(owner: User, queue: Queue, tmp_path: Path) -> None:
    client, before = signed_in(owner), everything_in(queue)
    for path in places(queue):
        client.get(path)
        client.head(path)
    assert everything_in(queue) == before
    assert not (tmp_path / "made").exists()


def test_a_change_needs_the_forms_token(owner: User, queue: Queue) -> None:
    client, before = signed_in(owner, enforce_csrf_checks=True), everything_in(queue)
    for path in places(queue):
        assert client.post(path, {"action": "delete"}).status_code == 403, path
    assert everything_in(queue) == before
    assert signed_in(owner).post(f"{DASHBOARD}queues/0/empty/").status_code == 302
    assert queue.count == 0


def test_a_job_that_is_gone_and_a_queue_that_is_away_are_no_errors_of_ours(
    owner: User, queue: Queue, settings: Settings
) -> None:
    client = signed_in(owner)
    for verb in ("", "delete/", "requeue/", "enqueue/", "results/1/"):
        assert client.get(f"{DASHBOARD}queues/0/nothing/{verb}").status_code == 404, verb
    settings.RQ_QUEUES = {"sae": {**settings.RQ_QUEUES["sae"], "URL": "redis://127.0.0.1:9"}}
    answer = client.get(f"{DASHBOARD}queues/0/", follow=True)
    assert "The queue cannot be reached" in answer.content.decode()


def test_a_worker_has_a_page_that_links_to_itself_until_it_is_gone(
    owner: User, queue: Queue
) -> None:
    client = signed_in(owner)
    busy: Any = Worker([queue], name="busy", connection=queue.connection)
    busy.register_birth()
    listed = client.get(f"{DASHBOARD}workers/0/").content.decode()
    (path,) = set(re.findall(rf"{DASHBOARD}workers/0/[^/']+/", listed))
    page = client.get(path).content.decode()
    (again,) = set(re.findall(rf"{DASHBOARD}workers/0/[^/\"]+/", page))
    assert client.get(again).content.decode().count("busy") == page.count("busy") > 0
    queue.connection.delete("rq:worker:busy")
    for gone in (path, again, f"{DASHBOARD}workers/0/nobody/"):
        assert client.get(gone).status_code == 404, gone


@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_else_gets_anything(db: None, queue: Queue, method: str) -> None:
    before = everything_in(queue)
    for client in (Client(), signed_in(User.objects.create_user("visitor"))):
        for path in places(queue):
            answer = getattr(client, method)(path)
            assert answer.status_code in (302, 401, 403), path
            assert b"forged" not in answer.content
    assert everything_in(queue) == before


@pytest.mark.parametrize("role", ["", roles.VIEWER, roles.EDITOR])
def test_staff_that_may_not_control_any_job_see_nothing_of_others(queue: Queue, role: str) -> None:
    client, before = signed_in(staff("somebody", role)), everything_in(queue)
    for method in ("get", "post"):
        for path in places(queue):
            assert getattr(client, method)(path).status_code == 403, path
    assert everything_in(queue) == before
    assert "django_rq" not in client.get("/admin/").content.decode()


def test_staff_that_may_control_any_job_look_and_change(queue: Queue) -> None:
    client = signed_in(staff("ada", roles.ADMIN))
    assert DASHBOARD in client.get("/admin/").content.decode()
    assert client.get(f"{DASHBOARD}queues/0/forged/").status_code == 200
    assert client.post(f"{DASHBOARD}queues/0/forged/delete/").status_code == 302
    assert queue.count == 0


def test_whoever_controls_any_job_but_is_no_staff_stays_outside(queue: Queue) -> None:
    user = staff("ada", roles.ADMIN)
    User.objects.update(is_staff=False)
    for path in places(queue):
        assert signed_in(user).get(path).status_code in (302, 403), path


def test_its_own_policy_allows_what_its_pages_hold_and_nothing_from_elsewhere(
    owner: User, queue: Queue
) -> None:
    client = signed_in(owner)
    strict = client.get("/admin/")["Content-Security-Policy"].split("; ")
    own = client.get(DASHBOARD)["Content-Security-Policy"].split("; ")
    inline = {f"{name}-src 'self' 'unsafe-inline'" for name in ("script", "style")}
    assert set(own) - set(strict) == inline and set(strict) <= set(own)
    for path in (f"{DASHBOARD}queues/0/nothing/", "/admin/django_rq/x/"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer["Content-Security-Policy"].split("; ") == strict, path


def test_no_token_of_the_api_opens_the_numbers(owner: User, queue: Queue) -> None:
    """The dashboard's own API would let a token in, were one set."""
    for token in ("", "None", "null"):
        headers = {"authorization": f"Bearer {token}"}
        answer = Client().get(f"{DASHBOARD}stats.json", headers=headers)
        assert answer.status_code == 302 and "sign-in" in answer["Location"]
