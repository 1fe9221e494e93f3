"""Variables of the environment: what makes sense is read, and nonsense is called by its name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mistudio import env
from mistudio.env import BadVariable
from tests.apps import clean_environment, manage

NAME = "MISTUDIO_X"
Reader = Callable[[], object]
NUMBER: Reader = lambda: env.number(NAME, 5, 1, 64)  # noqa: E731
FLAG: Reader = lambda: env.flag(NAME)  # noqa: E731
URL: Reader = lambda: env.url(NAME)  # noqa: E731
REDIS: Reader = lambda: env.url(NAME, schemes=("redis", "rediss", "unix"))  # noqa: E731
PATH: Reader = lambda: env.path(NAME, Path("/default"))  # noqa: E731
NAMES: Reader = lambda: env.names(NAME)  # noqa: E731
TEXT: Reader = lambda: env.text(NAME)  # noqa: E731
FOLDER: Reader = lambda: env.folder(NAME, Path("/default"))  # noqa: E731
ORIGIN: Reader = lambda: env.origin(NAME)  # noqa: E731
TOKEN: Reader = lambda: env.token(NAME)  # noqa: E731

GOOD = [
    (NUMBER, "", 5), (NUMBER, " 7 ", 7), (NUMBER, "64", 64), (FLAG, "", False), (FLAG, "Yes", True),
    (FLAG, "off", False), (URL, "", ""), (URL, "https://a.example/", "https://a.example"),
    (URL, "http://a:8000", "http://a:8000"), (REDIS, "unix:///run/x", "unix:///run/x"),
    (PATH, "", Path("/default")), (PATH, "/x/y", Path("/x/y")), (NAMES, "", []),
    (NAMES, " a.example, .b ,,", ["a.example", ".b"]), (TEXT, " x ", "x"),
    (ORIGIN, "https://a.example:8443/", "https://a.example:8443"), (TOKEN, "hf_a", "hf_a"),
    (ORIGIN, "https://Lab.example:443", "https://lab.example"), (ORIGIN, "", ""),
]  # fmt: skip
BAD = [
    (NUMBER, "x"), (NUMBER, "0"), (NUMBER, "65"), (NUMBER, "-1"), (NUMBER, "1.5"), (NUMBER, "1e1"),
    (NUMBER, "٣"), (NUMBER, "9" * 5000), (FLAG, "perhaps"), (FLAG, "2"), (URL, "a.example"),
    (URL, "ftp://a"), (URL, "http://"), (URL, "http://[::1"), (URL, "http://a:port"),
    (URL, "http://a:99999"), (URL, "https://a b.example"), (URL, "https://a.example/\nx"),
    (REDIS, "http://a"), (REDIS, "redis://"), (NAMES, "*"), (NAMES, "a,*"), (NAMES, "https://a"),
    (NAMES, "a b"), (FOLDER, "/dev/null/x"), (FOLDER, "/proc/x"), (ORIGIN, "https://a/b"),
    (ORIGIN, "https://a?b"), (ORIGIN, "https://me@a"), (TOKEN, "hf_ a"), (TOKEN, "hf_\u00e9"),
    (PATH, "/dev/null"), (PATH, "~nobody-of-that-name/x"), (PATH, "x" * 5000),
]  # fmt: skip


@pytest.mark.parametrize(("read", "value", "expected"), GOOD)
def test_sense_is_read(
    monkeypatch: pytest.MonkeyPatch, read: Reader, value: str, expected: object
) -> None:
    monkeypatch.setenv(NAME, value)
    assert read() == expected


@pytest.mark.parametrize(
    ("read", "value"), BAD, ids=lambda it: None if callable(it) else repr(it)[:40]
)
def test_nonsense_is_called_by_its_name(
    monkeypatch: pytest.MonkeyPatch, read: Reader, value: str
) -> None:
    monkeypatch.setenv(NAME, value)
    with pytest.raises(BadVariable, match=f"^{NAME}: "):
        read()


def test_a_file_may_hold_the_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "value").write_text(" 7\n")
    monkeypatch.setenv(NAME, "9")
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "value"))
    assert NUMBER() == 7


@pytest.mark.parametrize("file", ["/nowhere", "", "/", "{tmp}/latin1"])
def test_a_file_that_cannot_be_read_is_called_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str
) -> None:
    (tmp_path / "latin1").write_bytes(b"\xff")
    monkeypatch.setenv(f"{NAME}_FILE", file.format(tmp=tmp_path))
    with pytest.raises(BadVariable, match=f"^{NAME}_FILE: "):
        TEXT()


SETTINGS = [
    ("MISTUDIO_DATA_DIR", "/dev/null/x"), ("MISTUDIO_DATA_DIR", "/proc/x"),
    ("MISTUDIO_DATA_DIR", "~nobody-of-that-name"), ("MISTUDIO_ALLOWED_HOSTS", "*"),
    ("MISTUDIO_PUBLIC_URL", "https://lab.example/under/a/path"), ("HF_ENDPOINT", "http://[x"),
    ("MISTUDIO_DATABASE_URL", "sqlite:///x"), ("MISTUDIO_PORT", "9" * 5000),
    ("HF_TOKEN", "hf_ a b"), ("HF_TOKEN", "hf_\u00e9"), ("MISTUDIO_SECRET_KEY_FILE", "/nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), SETTINGS, ids=lambda it: it[:40])
def test_every_command_stops_at_nonsense_with_one_sentence(
    tmp_path: Path, name: str, value: str
) -> None:
    done = manage("sign_in_link", env=clean_environment(tmp_path / "data", **{name: value}))
    assert done.returncode == 1
    assert done.stderr.startswith(f"miStudio cannot start: {name}: ")
    assert "Traceback" not in done.stderr
    if name == "HF_TOKEN":
        assert value not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("MISTUDIO_HOST", "fd00::1"), ("MISTUDIO_PUBLIC_URL", "https://[fd00::1]:8443")],
)
def test_an_ipv6_address_may_be_the_servers_own(tmp_path: Path, name: str, value: str) -> None:
    code = "from django.conf import settings; print(settings.ALLOWED_HOSTS)"
    env = clean_environment(tmp_path / "data", **{name: value})
    assert "'[fd00::1]'" in manage("shell", "--no-imports", "-c", code, env=env).stdout
