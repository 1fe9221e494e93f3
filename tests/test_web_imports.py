"""The web process stays small: it never loads torch, nor anything that would."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps import ROOT, clean_environment
from tests.conftest import StartApp
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files
from tests.visitor import Visitor

REPO = "google/gemma-scope-2b-pt-res"
WHERE = "layer_12/width_16k/average_l0_41"
PAGES = ("/", "/hub/", "/storage/", "/admin/", "/admin/saes/job/", f"/hub/{REPO}/",
         f"/hub/{REPO}/header/?where={WHERE}", "/nowhere/")  # fmt: skip


def imported(code: str, tmp_path: Path) -> set[str]:
    """The top-level packages that are loaded, as `-X importtime` tells."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        env=clean_environment(tmp_path), cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 500
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_importing_the_web_process_loads_no_torch(tmp_path: Path) -> None:
    packages = imported("import mistudio.asgi", tmp_path)
    assert {"django", "channels", "saes"} <= packages
    assert packages.isdisjoint({"torch", "pandas", "scipy", "transformers", "sympy"})


def test_nor_does_loading_every_view(tmp_path: Path) -> None:
    code = "import mistudio.asgi; from django.urls import get_resolver; "
    code += "print(get_resolver().reverse_dict)"
    packages = imported(code, tmp_path)
    assert "huggingface_hub" in packages
    assert "torch" not in packages


@pytest.mark.processes
def test_after_serving_every_main_page_it_is_small_and_has_no_torch(
    start_app: StartApp, app_hub: LocalHub
) -> None:
    app_hub.add_repo(REPO, sample_files("gemma_scope_1_res"))
    app = start_app(HF_ENDPOINT=app_hub.url)
    visitor = Visitor(app.url).sign_in(app.new_sign_in_url())
    for _ in range(3):
        statuses = [visitor.get(page).status for page in PAGES]
        assert statuses == [200] * (len(PAGES) - 1) + [404]
    (web,) = app.parts("web")
    maps = Path(f"/proc/{web.pid}/maps").read_text()
    assert "libtorch" not in maps and "/torch/" not in maps
    assert web.memory_info().rss < 150 * 2**20
