"""Another key for the vault: while others work, and killed at each step."""

import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from pytest_django import Settings

from mistudio import keyfiles
from saes import locks, vault, vault_keys
from saes.errors import BadToken, Conflict
from saes.models import HubToken
from tests.apps import ROOT, clean_environment, manage

pytestmark = pytest.mark.django_db(transaction=True)
TOKENS = ["hf_first_111111111", "hf_second_22222222", "hf_server_33333333", "hf_once_4444444444"]


@pytest.fixture(autouse=True)
def key(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    return tmp_path / "data" / "vault.key"


@pytest.fixture
def rows(key: Path) -> list[HubToken]:
    alice = User.objects.create_user("alice")
    return [
        vault.keep(alice, TOKENS[0], "one"), vault.keep(alice, TOKENS[1], "two"),
        vault.keep(None, TOKENS[2]), vault.keep_for_one_job(alice, TOKENS[3]),
    ]  # fmt: skip


def readable() -> list[str]:
    return [vault.opened(row) for row in HubToken.objects.order_by("id")]


def test_every_token_is_encrypted_with_the_new_key_and_the_old_one_is_gone(
    rows: list[HubToken], key: Path
) -> None:
    old = key.read_text()
    done = vault_keys.rotate()
    assert (done.encrypted, done.unreadable) == (4, 0)
    (new,) = key.read_text().split()
    assert new != old.strip()
    for row, token in zip(HubToken.objects.order_by("id"), TOKENS, strict=True):
        assert Fernet(new).decrypt(row.secret).decode() == token
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in key.parent.iterdir() if path.is_file()] == ["vault.key"]


def test_a_worker_that_read_its_token_before_goes_on_with_it(rows: list[HubToken]) -> None:
    vault_keys.rotate()
    assert [vault.reveal(row) for row in rows] == TOKENS  # rows as they were before


def test_a_token_that_nobody_could_read_is_counted_and_left(rows: list[HubToken]) -> None:
    HubToken.objects.filter(id=rows[0].id).update(secret="gAAAA of another key")
    done = vault_keys.rotate()
    assert (done.encrypted, done.unreadable) == (3, 1)
    assert HubToken.objects.get(id=rows[0].id).secret == "gAAAA of another key"
    assert [vault.opened(row) for row in HubToken.objects.order_by("id")[1:]] == TOKENS[1:]


def test_an_empty_vault_gets_its_key(key: Path) -> None:
    assert vault_keys.rotate().encrypted == 0
    assert len(key.read_text().split()) == 1


def test_one_at_a_time(rows: list[HubToken], key: Path) -> None:
    before = key.read_text()
    lock = locks.take(key.parent / "run" / "vault.lock")
    assert lock
    with pytest.raises(Conflict):
        vault_keys.rotate()
    assert key.read_text() == before
    lock.close()
    assert vault_keys.rotate().encrypted == 4


@pytest.mark.parametrize("content", ["", "no key\n", "\n\n", "x" * 44, "a" * 100_000])
def test_a_damaged_key_file_is_an_error_in_words_and_stays(
    rows: list[HubToken], key: Path, content: str
) -> None:
    key.write_text(content)
    for act in (vault_keys.rotate, lambda: vault.keep(None, "hf_more_555555555")):
        with pytest.raises(BadToken, match="vault.key"):
            act()
    assert key.read_text() == content
    with pytest.raises(BadToken, match="vault.key"):
        vault.reveal(rows[0])


# --- stopped in between ---------------------------------------------------------------------------


class Stop(Exception):
    pass


def stop(*args: Any, **more: Any) -> None:
    raise Stop


def failing_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Of the two times that the key file is written, this one does not come to pass."""
    write, calls = keyfiles.replace, []

    def counted(path: Path, content: str) -> None:
        calls.append(content)
        if len(calls) == call:
            raise Stop
        write(path, content)

    monkeypatch.setattr(keyfiles, "replace", counted)


STEPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before the new key is written": lambda patch: failing_at(patch, 1),
    "before any token is encrypted": lambda patch: patch.setattr(vault_keys, "_encrypt_all", stop),
    "before they are stored": lambda patch: patch.setattr(
        "django.db.models.query.QuerySet.bulk_update", stop
    ),
    "before the old key is dropped": lambda patch: failing_at(patch, 2),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_leaves_every_token_readable(
    rows: list[HubToken], key: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        STEPS[step](patch)
        with pytest.raises(Stop):
            vault_keys.rotate()
    assert readable() == TOKENS
    assert vault_keys.rotate().encrypted == 4  # and the next one clears up
    assert readable() == TOKENS
    assert len(key.read_text().split()) == 1


KILLED = """
import os, signal, sys
import django
django.setup()
from mistudio import keyfiles
from saes import vault_keys
from django.db.models import QuerySet

def die(*args, **more):
    os.kill(os.getpid(), signal.SIGKILL)

step = int(sys.argv[1])
if step == 0: keyfiles.Path.rename = die  # the draft with the new key is written
if step == 1: vault_keys._encrypt_all = die
if step == 2:
    store = QuerySet.bulk_update
    QuerySet.bulk_update = lambda *a, **more: (store(*a, **more), die())
if step == 3:
    write = keyfiles.replace
    keyfiles.replace = lambda path, content: write(path, content) if "\\n" in content else die()
if step == 4:
    rename, times = keyfiles.Path.rename, []
    def second(path, target):
        times.append(path)
        die() if len(times) == 2 else rename(path, target)
    keyfiles.Path.rename = second
vault_keys.rotate()
"""


@pytest.mark.processes
@pytest.mark.parametrize("step", range(5))
def test_a_kill_at_any_step_leaves_every_token_readable(tmp_path: Path, step: int) -> None:
    env = clean_environment(tmp_path / "product", DJANGO_SETTINGS_MODULE="mistudio.settings")
    run = {"env": env, "cwd": ROOT, "capture_output": True, "text": True}
    kept = "import django; django.setup(); from saes import vault; "
    assert manage("migrate", env=env).returncode == 0
    keep = kept + f"[vault.keep_for_one_job(None, it) for it in {TOKENS}]"
    subprocess.run([sys.executable, "-c", keep], check=True, **run)  # type: ignore[call-overload]
    died = subprocess.run([sys.executable, "-c", KILLED, str(step)], **run)  # type: ignore[call-overload]
    assert died.returncode == -signal.SIGKILL, died.stderr
    read = kept + "from saes.models import HubToken; "
    read += "print(*[vault.opened(it) for it in HubToken.objects.order_by('id')])"
    said = subprocess.run([sys.executable, "-c", read], **run)  # type: ignore[call-overload]
    assert said.stdout.split() == TOKENS, said.stderr
    again = manage("sae_rotate_vault", "--json", env=env)
    assert '"encrypted": 4' in again.stdout, again.stderr
    said = subprocess.run([sys.executable, "-c", read], **run)  # type: ignore[call-overload]
    assert said.stdout.split() == TOKENS, said.stderr
    left = [path for path in (tmp_path / "product").iterdir() if "vault.key" in path.name]
    assert [path.name for path in left] == ["vault.key"]
    assert len(left[0].read_text().split()) == 1 and left[0].stat().st_mode & 0o077 == 0


# --- while others work ----------------------------------------------------------------------------


def test_tokens_that_are_added_meanwhile_are_not_lost(rows: list[HubToken]) -> None:
    """Threads stand for other processes: nothing of the key is shared between them."""
    kept: list[tuple[int, str]] = []
    ended, problems = threading.Event(), []

    def add() -> None:
        try:
            while not ended.is_set():
                token = f"hf_meanwhile_{len(kept):06}"
                row = vault.keep_for_one_job(None, token)
                kept.append((row.id, token))
                assert vault.reveal(row) == token
        except (BadToken, OperationalError, AssertionError) as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        vault_keys.rotate()
    ended.set()
    for thread in threads:
        thread.join()
    assert problems == [] and len(kept) > 5
    by_id = HubToken.objects.in_bulk()
    assert all(vault.opened(by_id[row_id]) == token for row_id, token in kept)


def test_of_tokens_that_come_at_the_same_time_one_is_the_usual_one(key: Path) -> None:
    alice = User.objects.create_user("alice")

    def change(number: int) -> None:
        row = vault.keep(alice, TOKENS[0], f"token {number}")
        vault.make_usual(alice, row.id)
        connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(12)))
    assert HubToken.objects.filter(owner=alice).count() == 12
    assert HubToken.objects.filter(owner=alice, is_usual=True).count() == 1
