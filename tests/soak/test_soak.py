"""Many downloads through faults, kills and impatience: in the end every byte is right."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps import App, make_app, manage, wait_for
from tests.hub import LocalHub
from tests.soak.mischief import Mischief
from tests.soak.truth import wrong
from tests.soak.world import Program, Wanted, fill, rows

COUNT = int(os.environ.get("MISTUDIO_TEST_SOAK") or 200)
SEED = int(os.environ.get("MISTUDIO_TEST_SEED") or random.SystemRandom().randrange(10**6))
EACH = 45.0  # seconds for each download at most, faults and kills included
TROUBLES = 6  # for each download


@pytest.fixture
def app(tmp_path: Path) -> Iterator[tuple[App, LocalHub]]:
    with LocalHub(bytes_per_second=8_000_000) as hub:
        app = make_app(
            tmp_path / "data", HF_ENDPOINT=hub.url, MISTUDIO_WORKERS="3",
            MISTUDIO_API_RATE="1000000", HF_HUB_CACHE=str(tmp_path / "no-cache"),
        )  # fmt: skip
        app.start().wait_until_ready(120)
        yield app, hub
        app.stop()


def test_downloads_through_faults_and_kills_end_ready_and_right(
    app: tuple[App, LocalHub], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    product, hub = app
    with capsys.disabled():
        print(f"\nsoak: {COUNT} downloads, MISTUDIO_TEST_SEED={SEED}")  # noqa: T201
    dice = random.Random(SEED)
    wanted = fill(hub, COUNT, tmp_path / "truth", dice)
    token = manage("create_api_token", env=product.env).stdout.split()[-1]
    program = Program(product, token)
    mischief = Mischief(hub, product, program, dice)
    begun = time.monotonic()
    soak(product, program, mischief, wanted, begun + COUNT * EACH * 0.7)
    hub.faults.clear()
    wait_for(lambda: calm_down(product, program, wanted), COUNT * EACH)
    with capsys.disabled():
        print(f"soak: {time.monotonic() - begun:.0f} s, {mischief.done}")  # noqa: T201
    assert list(wrong(product, wanted)) == []
    assert product.is_healthy()


def soak(app: App, program: Program, mischief: Mischief, wanted: list[Wanted], end: float) -> None:
    """Ask for one after the other, while things go wrong."""
    left = list(wanted)
    mischief.dice.shuffle(left)
    while time.monotonic() < end:
        if app.process.poll() is not None:  # what was killed too often ends the product
            app.lines.clear()
            app.start().wait_until_ready(120)
        if (
            left
            and len(active(app)) < 12
            and program.ask(left[-1], named=mischief.dice.random() < 0.8)
        ):
            left.pop()
        mischief.something()
        tidy(app, program)
        if not left and sum(mischief.done.values()) >= TROUBLES * len(wanted):
            return
        time.sleep(mischief.dice.uniform(0, 0.6))


def calm_down(app: App, program: Program, wanted: list[Wanted]) -> bool:
    """Nothing goes wrong any more: whatever was stopped goes on. True when all are ready."""
    if app.process.poll() is not None:
        app.lines.clear()
        app.start().wait_until_ready(120)
    here = {(row["hf_repo_id"], row["hf_filepath"]) for row in rows(app, "SELECT * FROM saes_sae")}
    for it in wanted:
        if (it.repo, it.where) not in here:
            program.ask(it, named=True)
    for row in rows(app, "SELECT id FROM saes_job WHERE state = 'paused'"):
        program("POST", f"/jobs/{row['id']}/resume")
    tidy(app, program)
    time.sleep(0.5)
    return len(ready(app)) == len(wanted) and not active(app)


def tidy(app: App, program: Program) -> None:
    """As a user would: retry what failed, delete what turned out to be here already."""
    query = "SELECT * FROM saes_sae WHERE status = 'error'"
    for sae in rows(app, query):
        newest = f"SELECT * FROM saes_job WHERE sae_id = '{sae['id']}' ORDER BY created_at DESC"
        if sae["error_code"] == "already_here":
            program("DELETE", f"/saes/{sae['id']}")
        elif jobs := rows(app, newest):
            program("POST", f"/jobs/{jobs[0]['id']}/retry", {})


def active(app: App) -> list[dict[str, object]]:
    return rows(app, "SELECT id FROM saes_job WHERE state IN ('queued', 'running', 'paused')")


def ready(app: App) -> list[dict[str, object]]:
    return rows(app, "SELECT id FROM saes_sae WHERE status = 'ready'")
