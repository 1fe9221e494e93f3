"""Commands as processes: before any start, beside a running product, stopped, half read."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from rq import Worker

from tests.apps import ROOT, App, clean_environment, manage, queue_of, wait_for
from tests.commands.conftest import SAELENS, SAELENS_WHERE, fill
from tests.hub import LocalHub, faults
from tests.jobs.test_download import is_body
from tests.supervisor.test_jobs import files

pytestmark = pytest.mark.processes
MANAGE = [sys.executable, str(ROOT / "manage.py")]
TOKEN = "hf_alice_1111"


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as local:
        fill(local)
        yield local


@pytest.fixture
def laptop(hub: LocalHub, tmp_path: Path) -> dict[str, str]:
    """A fresh data directory on which nothing was ever started."""
    return clean_environment(tmp_path / "data", HF_ENDPOINT=hub.url)


def asked(env: dict[str, str], query: str) -> Any:
    """The first row of an answer of the database."""
    path = Path(env["MISTUDIO_DATA_DIR"]) / "mistudio.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchone()


def test_before_the_first_start_a_token_is_made_and_printed_last(laptop: dict[str, str]) -> None:
    ran = manage("create_api_token", "--user", "owner", "--scope", "write", env=laptop)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].startswith("mis_")
    assert asked(laptop, "SELECT scope, last_four FROM saes_apitoken") == (
        "write", ran.stdout.strip()[-4:],
    )  # fmt: skip


def test_exit_codes_tell_a_refusal_from_wrong_usage(laptop: dict[str, str]) -> None:
    refused = manage("create_api_token", "--user", "nobody", "--json", env=laptop)
    assert (refused.returncode, json.loads(refused.stdout)["code"]) == (1, "not_found")
    assert refused.stderr.startswith("Failed: There is no active user")
    wrong = manage("sae_list", "--json", "--sort", "__class__", env=laptop)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in refused.stderr + wrong.stderr


def test_a_database_of_an_older_version_is_left_to_start(laptop: dict[str, str]) -> None:
    assert manage("migrate", "saes", "0001", env=laptop).returncode == 0
    ran = manage("sae_list", "--json", env=laptop)
    assert (ran.returncode, json.loads(ran.stdout)["code"]) == (1, "data_missing")
    assert "make start" in ran.stderr
    assert asked(laptop, "SELECT count(*) FROM django_migrations WHERE app = 'saes'") == (1,)


def test_a_laptop_without_start_brings_an_sae_in_by_a_token_on_standard_input(
    laptop: dict[str, str],
) -> None:
    words = ["sae_download", "alice/private", SAELENS_WHERE, "--wait", "--token-stdin", "--json"]
    ran = subprocess.run(
        [*MANAGE, *words],
        env=laptop,
        input=f"{TOKEN}\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["sae"]["status"] == "ready"
    assert "Traceback" not in ran.stderr and "WARNING" not in ran.stderr
    assert TOKEN not in ran.stdout + ran.stderr
    kept = [path for path in Path(laptop["MISTUDIO_DATA_DIR"]).rglob("*") if path.is_file()]
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]
    assert asked(laptop, "SELECT count(*) FROM saes_hubtoken") == (0,)


def test_ctrl_c_leaves_the_job_to_whoever_comes_next(laptop: dict[str, str]) -> None:
    with LocalHub(bytes_per_second=30_000) as slow:
        slow.add_repo("alice/sae", files(), lfs_from=1000)
        slow.faults.add(is_body, faults.stall(25_000, 60.0), times=None)  # it comes no further
        laptop["HF_ENDPOINT"] = slow.url
        command = [*MANAGE, "sae_download", "alice/sae", "--wait", "--json"]
        with subprocess.Popen(
            command, env=laptop, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            wait_for(lambda: _bytes_done(laptop) > 20_000)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert json.loads(out)["job"]["state"] in ("queued", "running")
        assert "is not ready yet" in err and "Traceback" not in err
        assert asked(laptop, "SELECT state, lease FROM saes_job") == ("queued", "")
        slow.log.clear()
        slow.faults.clear()
        again = manage("sae_download", "alice/sae", "--wait", env=laptop)
        assert again.returncode == 0, again.stderr
        whole = sum(map(len, files().values()))
        assert 0 < slow.log.bytes_sent("sae_weights") < whole - 15_000
        assert asked(laptop, "SELECT state, attempt FROM saes_job") == ("done", 2)


def _bytes_done(env: dict[str, str]) -> int:
    try:
        row = asked(env, "SELECT bytes_done FROM saes_job WHERE stage = 'downloading'")
    except sqlite3.OperationalError:  # the command is still making the database
        return 0
    return row[0] if row else 0


def test_beside_a_running_product_its_workers_do_the_job(
    running_app: App, app_hub: LocalHub
) -> None:
    app_hub.add_repo("commands/saes", files())
    queue = queue_of(running_app)
    wait_for(lambda: Worker.count(queue=queue) > 0)  # pages are there before the workers are
    ran = manage("sae_download", "commands/saes", "--wait", "--json", env=running_app.env)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["sae"]["status"], told["job"]["state"]) == ("ready", "done")
    assert "done here" not in ran.stderr
    token = manage("create_api_token", env=running_app.env).stdout.splitlines()[-1]
    request = Request(
        f"{running_app.url}/api/v1/saes/{told['sae']['id']}",
        headers={"Authorization": f"Bearer {token}"},
    )
    with urlopen(request, timeout=10) as answer:
        assert json.load(answer)["status"] == "ready"


@pytest.mark.parametrize(
    ("words", "code"), [(["sae_formats"], 0), (["sae_inspect", "/nowhere", "--json"], 1)]
)
def test_a_reader_that_goes_early_harms_nothing(
    laptop: dict[str, str], words: list[str], code: int
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [*MANAGE, *words], env=laptop, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert ran.returncode == code
    assert "Traceback" not in ran.stderr and "Exception ignored" not in ran.stderr


def test_both_streams_may_have_lost_their_reader(laptop: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = ["sae_download", SAELENS, SAELENS_WHERE, "--wait"]
    ran = subprocess.run([*MANAGE, *words], env=laptop, stdout=writer, stderr=writer, timeout=60)
    os.close(writer)
    assert ran.returncode == 0
    assert asked(laptop, "SELECT status FROM saes_sae") == ("ready",)


def test_a_terminal_that_knows_few_letters_shows_the_rest_as_question_marks(
    laptop: dict[str, str],
) -> None:
    laptop |= {"PYTHONIOENCODING": "ascii"}
    ran = manage("sae_formats", env=laptop)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "| ? |" in ran.stdout
