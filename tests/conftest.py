"""What tests of several parts share: the real product as a process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.apps import App, make_app
from tests.hub import LocalHub


class StartApp(Protocol):
    def __call__(self, *arguments: str, data_dir: Path | None = None, **variables: str) -> App: ...


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
