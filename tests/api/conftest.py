"""The API, asked through Django's client: a token that may write, and a local hub."""

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from pytest_django import Settings

from saes import accounts, api_tokens, jobs, queueing, roles
from saes.api import limits
from saes.api.main import api as the_api
from saes.models import ApiToken, Job
from tests.hub import LocalHub

BASE = "/api/v1"


@functools.cache
def routes() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """What the document has, by patterns of addresses: those without an id come first."""
    paths = sorted(the_api.get_openapi_schema()["paths"].items(), key=lambda it: "{" in it[0])
    return [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), methods) for path, methods in paths]


def check_documented(answer: Any) -> None:
    """Whatever a test asks: a route answers with nothing that the document does not name."""
    asked = answer.wsgi_request
    for pattern, methods in routes():
        if pattern.fullmatch(asked.path):
            told = methods.get(asked.method.lower())
            named = told["responses"] if told else {405, 401, 403, 429, 415}
            assert answer.status_code in {int(it) for it in named}, (
                f"{asked.method} {asked.path} does not document {answer.status_code}"
            )
            return


@dataclass
class ApiClient:
    """Somebody's program. Answers are parsed; the last one is kept whole."""

    token: str
    last: Any = None

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        request = getattr(Client(), method)
        more: dict[str, Any] = {"headers": {"authorization": f"Bearer {self.token}", **headers}}
        if body is not None:
            more |= {"data": body, "content_type": "application/json"}
        self.last = request(BASE + path, **more)
        check_documented(self.last)
        return json.loads(self.last.content)

    def get(self, path: str, **headers: str) -> Any:
        return self("get", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self("post", path, {} if body is None else body, **headers)

    def patch(self, path: str, body: Any) -> Any:
        return self("patch", path, body)

    def delete(self, path: str) -> Any:
        return self("delete", path)

    @property
    def status(self) -> int:
        return int(self.last.status_code)

    def header(self, name: str) -> str:
        return str(self.last[name])


def client_of(user: User, scope: str = ApiToken.Scope.WRITE) -> ApiClient:
    return ApiClient(api_tokens.create(user, "a test", scope)[1])


def person(name: str, role: str) -> User:
    """Without a role: somebody who is only known."""
    user = User.objects.create_user(name)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


@pytest.fixture(autouse=True)
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir(exist_ok=True)
    return Path(settings.DATA_DIR)


@pytest.fixture(autouse=True)
def fresh_limits() -> None:
    """Users of different tests have the same ids."""
    limits.forget()


@pytest.fixture
def hub(settings: Settings) -> Iterator[LocalHub]:
    with LocalHub() as local:
        settings.HF_ENDPOINT = local.url
        local.add_token("hf_alice_1111", "alice")
        yield local


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Jobs that were handed to the queue; `work()` does them here, as a worker would."""
    queued: list[Job] = []
    monkeypatch.setattr(queueing, "enqueue", queued.extend)
    return queued


def work(started: list[Job]) -> None:
    while started:
        jobs.run(started.pop(0).id)


@pytest.fixture
def owner(transactional_db: None) -> User:
    return accounts.ensure_owner()


@pytest.fixture
def api(owner: User) -> ApiClient:
    return client_of(owner)


@pytest.fixture
def editor(transactional_db: None) -> User:
    return person("erin", roles.EDITOR)


@pytest.fixture
def viewer(transactional_db: None) -> User:
    return person("vera", roles.VIEWER)
