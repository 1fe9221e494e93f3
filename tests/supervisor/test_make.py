"""The Makefile and what it calls, without installing anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mistudio import torch_index
from tests.apps import ROOT
from tests.browser import install_browser

STAMPS = (".python", ".torch", ".product", ".tools", ".browser")
SHOW_ENVIRONMENT = "#!/bin/sh\nenv\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An installed tree, whose Python shows the environment that it was given."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "mistudio", "tests/browser"):
        source, target = ROOT / name, tmp_path / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(SHOW_ENVIRONMENT)
    python.chmod(0o755)
    for stamp in STAMPS:
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def make(tree: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = ["make", "-C", str(tree), *words]
    env = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, timeout=300
    )


def test_without_a_target_it_lists_them(tree: Path) -> None:
    shown = make(tree).stdout
    for target in ("install", "start", "test", "check", "lock"):
        assert f"make {target}\t" in shown


def test_the_second_time_nothing_is_installed(tree: Path) -> None:
    assert "Installing" not in make(tree, "start").stdout


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_is_installed(tree: Path, changed: str) -> None:
    stat = (tree / ".venv" / ".product").stat()
    os.utime(tree / changed, (stat.st_atime + 10, stat.st_mtime + 10))
    assert "Installing miStudio" in make(tree, "install").stdout


def test_an_old_python_is_refused_with_a_sentence(tmp_path: Path, tree: Path) -> None:
    (tree / ".venv" / ".python").unlink()
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(tree, "start", f"PYTHON={old}")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stdout


def test_env_file_is_literal_and_the_environment_has_precedence(tree: Path) -> None:
    (tree / ".env").write_text(
        "# a comment\n\nMISTUDIO_PORT=1\nMISTUDIO_WORKERS=3\n"
        "HF_TOKEN=a $(b) 'c' \"d\" #e=f\nnot a line\nbad-name=1\nMISTUDIO_HOST=::1"
    )
    shown = make(tree, "start", MISTUDIO_PORT="9000").stdout.splitlines()
    assert "MISTUDIO_PORT=9000" in shown
    assert "MISTUDIO_WORKERS=3" in shown
    assert "HF_TOKEN=a $(b) 'c' \"d\" #e=f" in shown
    assert "MISTUDIO_HOST=::1" in shown


@pytest.mark.parametrize(
    ("wanted", "reachable", "options"),
    [
        (None, True, f"--index-url {torch_index.CPU_INDEX}"),
        (None, False, ""),
        ("", True, ""),
        ("none", True, ""),
        ("https://mirror.example/simple", False, "--index-url https://mirror.example/simple"),
    ],
)
def test_where_torch_comes_from(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wanted: str | None,
    reachable: bool,
    options: str,
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(torch_index, "reachable", lambda url: reachable)
    monkeypatch.delenv("MISTUDIO_TORCH_INDEX", raising=False)
    if wanted is not None:
        monkeypatch.setenv("MISTUDIO_TORCH_INDEX", wanted)
    torch_index.main()
    assert capsys.readouterr().out == options


def test_torch_is_pinned_and_brings_no_cuda() -> None:
    pins = (ROOT / "constraints.txt").read_text()
    assert "\ntorch==2.13.0\n" in pins
    assert not [line for line in pins.splitlines() if line.startswith(("nvidia", "cuda", "triton"))]


def test_a_browser_that_is_named_must_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "browser"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("MISTUDIO_TEST_BROWSER", str(broken))
    assert install_browser.find() is None
    with pytest.raises(SystemExit, match="MISTUDIO_TEST_BROWSER"):
        install_browser.main()


def test_no_browser_and_no_way_to_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISTUDIO_TEST_BROWSER", raising=False)
    monkeypatch.setattr(install_browser, "_installed", lambda: iter(()))
    monkeypatch.setattr(install_browser, "_answers", lambda url: False)
    monkeypatch.setattr(install_browser, "PACKAGES", {})
    with pytest.raises(SystemExit, match="need Chromium"):
        install_browser.main()


def test_a_package_is_installed_where_nothing_else_helped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    monkeypatch.delenv("MISTUDIO_TEST_BROWSER", raising=False)
    monkeypatch.setattr(
        install_browser, "_installed", lambda: iter(["/usr/bin/true"] if len(ran) > 1 else [])
    )
    monkeypatch.setattr(install_browser, "_answers", lambda url: False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(
        install_browser, "_run", lambda command, quiet=False: ran.append(" ".join(command))
    )
    install_browser.main()
    assert ran == ["apt-get update -qq", "apt-get install -qq -y chromium fonts-liberation"]
