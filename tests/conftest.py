"""What tests of several parts share: the real product as a process."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from django.core.management.commands import flush
from pytest_django import DjangoDbBlocker

from tests import quick
from tests.apps import App, make_app
from tests.hub import LocalHub
from tests.turns import turn


class StartApp(Protocol):
    def __call__(self, *arguments: str, data_dir: Path | None = None, **variables: str) -> App: ...


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A test that commits leaves the database as it was migrated, and quickly."""
    with django_db_blocker.unblock():
        put_back = quick.rows_as_they_are()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "emit_post_migrate_signal", put_back)
        yield


@pytest.fixture
def start_app(tmp_path: Path) -> Iterator[StartApp]:
    """Starts the product and waits until it serves; the end of the test ends it."""
    started: list[App] = []

    def start(*arguments: str, data_dir: Path | None = None, **variables: str) -> App:
        app = make_app(data_dir or tmp_path / "data", *arguments, **variables)
        started.append(app.start())
        return app.wait_until_ready()

    yield start
    for app in started:
        app.stop()


@pytest.fixture(scope="session")
def app_hub() -> Iterator[LocalHub]:
    """The hub that `running_app` downloads from."""
    with LocalHub() as hub:
        yield hub


@pytest.fixture(scope="session")
def running_app(tmp_path_factory: pytest.TempPathFactory, app_hub: LocalHub) -> Iterator[App]:
    """One product for all tests that only use it; whoever kills parts of it starts their own."""
    app = make_app(tmp_path_factory.mktemp("app"), HF_ENDPOINT=app_hub.url)
    app.start().wait_until_ready()
    yield app
    app.stop()
