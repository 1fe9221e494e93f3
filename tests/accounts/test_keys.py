"""Key files: made once, for the user alone, whoever comes first."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_django import Settings

from mistudio import keyfiles
from saes import vault
from tests.apps import ROOT, clean_environment, manage

RACE = """
import sys, time
from pathlib import Path
from mistudio import keyfiles
folder = Path(sys.argv[1])
print(end="ready\\n", flush=True)
while not (folder / "go").exists():
    pass
print(keyfiles.read_or_create(folder / "data" / "secret.key"))
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_racing_processes_get_one_key(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path)],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for _ in range(8)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    keys = {racer.communicate(timeout=120)[0] for racer in racers}
    assert len(keys) == 1
    assert len(keys.pop().strip()) > 50
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret.key"]
    assert mode(tmp_path / "data" / "secret.key") == 0o600
    assert mode(tmp_path / "data") == 0o700


def test_a_key_stays_what_it_is(tmp_path: Path) -> None:
    key = keyfiles.read_or_create(tmp_path / "a.key")
    assert keyfiles.read_or_create(tmp_path / "a.key") == key
    assert keyfiles.read_or_create(tmp_path / "b.key") != key


def test_the_umask_opens_no_key(tmp_path: Path) -> None:
    code = "import os, sys; os.umask(0); from mistudio import keyfiles; from pathlib import Path; "
    code += "keyfiles.read_or_create(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.key")], check=True, cwd=ROOT)
    assert mode(tmp_path / "a.key") == 0o600


@pytest.mark.django_db
def test_the_vault_makes_its_own_key(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    row = vault.keep(None, "hf_abcdefgh12345678")
    assert vault.reveal(row) == "hf_abcdefgh12345678"
    assert mode(tmp_path / "vault.key") == 0o600


def test_the_first_command_makes_the_secret_key(tmp_path: Path) -> None:
    env = clean_environment(tmp_path / "data")
    assert manage("check", env=env).returncode == 0
    key = (tmp_path / "data" / "secret.key").read_text()
    assert mode(tmp_path / "data" / "secret.key") == 0o600
    assert mode(tmp_path / "data") == 0o700
    assert manage("check", env=env).returncode == 0
    assert (tmp_path / "data" / "secret.key").read_text() == key


def test_a_given_key_makes_no_file(tmp_path: Path) -> None:
    env = clean_environment(tmp_path / "data", MISTUDIO_SECRET_KEY="x" * 60)
    assert manage("check", env=env).returncode == 0
    assert not (tmp_path / "data" / "secret.key").exists()
