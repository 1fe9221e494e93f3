"""The same product on a real PostgreSQL server."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.apps import make_app, wait_for
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files
from tests.postgresql import database_url
from tests.visitor import Visitor

__all__ = ["database_url"]
pytestmark = pytest.mark.processes
REPO = "google/gemma-scope-2b-pt-res"
WHERE = "layer_12/width_16k/average_l0_41"


def test_a_request_made_by_many_at_once_is_one_sae_on_postgresql(
    database_url: str, tmp_path: Path
) -> None:
    with LocalHub() as hub:
        repo = hub.add_repo(REPO, sample_files("gemma_scope_1_res"))
        app = make_app(tmp_path / "data", HF_ENDPOINT=hub.url, MISTUDIO_DATABASE_URL=database_url)
        app.start().wait_until_ready()
        try:
            visitor = Visitor(app.url).sign_in(app.sign_in_url)
            form = {"repo": REPO, "repo_type": "model", "commit": repo.sha, "where": WHERE}
            with ThreadPoolExecutor(8) as pool:
                pages = list(pool.map(lambda _: visitor.post("/hub/download/", form), range(24)))
            assert {page.status for page in pages} == {200}
            (address,) = {page.url for page in pages}
            wait_for(lambda: 'data-state="ready"' in visitor.get(f"{address}card/").text)
            assert len(list((app.data_dir / "saes").glob("sae_*"))) == 1
        finally:
            app.stop()


def test_a_download_ends_ready_on_postgresql(database_url: str, tmp_path: Path) -> None:
    with LocalHub() as hub:
        repo = hub.add_repo(REPO, sample_files("gemma_scope_1_res"))
        app = make_app(tmp_path / "data", HF_ENDPOINT=hub.url, MISTUDIO_DATABASE_URL=database_url)
        app.start().wait_until_ready()
        try:
            visitor = Visitor(app.url).sign_in(app.sign_in_url)
            form = {"repo": REPO, "repo_type": "model", "commit": repo.sha}
            address = visitor.post("/hub/download/", {**form, "where": WHERE}).url
            wait_for(lambda: 'data-state="ready"' in visitor.get(f"{address}card/").text)
            assert "gemma-scope" in visitor.get("/?search=gemma&sort=width&layer=12").text
        finally:
            app.stop()
        assert not (app.data_dir / "mistudio.sqlite3").exists()
