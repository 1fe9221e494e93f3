"""Finds a Chromium for the browser tests, or installs one. A missing browser is an error.

In this order: MISTUDIO_TEST_BROWSER, what is installed, Playwright's own download, the system's
package. Only the standard library is used, so that the tests can ask `find()` quickly.
"""

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
CDN = "https://cdn.playwright.dev"
PACKAGES: dict[str, Sequence[Sequence[str]]] = {
    "apt-get": (
        ("apt-get", "update", "-qq"),
        # Without a font every text is invisible, and a page without text has no layout to test.
        ("apt-get", "install", "-qq", "-y", "chromium", "fonts-liberation"),
    ),
    "dnf": (("dnf", "install", "-q", "-y", "chromium", "liberation-sans-fonts"),),
    "brew": (("brew", "install", "--quiet", "--cask", "chromium"),),
}


def find() -> str | None:
    """A browser that runs, or None."""
    named = os.environ.get("MISTUDIO_TEST_BROWSER")
    candidates = [named] if named else _installed()
    return next((path for path in candidates if _runs(path)), None)


def _installed() -> Iterator[str]:
    yield from filter(None, map(shutil.which, NAMES))
    yield from (path for path in MAC_APPS if Path(path).exists())
    for folder in _playwright_folders():
        yield from map(str, sorted(folder.glob("chromium-*/*/chrome"), reverse=True))
        yield from map(str, folder.glob("chromium-*/*/*.app/Contents/MacOS/*"))


def _playwright_folders() -> Iterator[Path]:
    if chosen := os.environ.get("PLAYWRIGHT_BROWSERS_PATH"):
        yield Path(chosen)
    yield Path.home() / ".cache" / "ms-playwright"
    yield Path.home() / "Library" / "Caches" / "ms-playwright"


def _runs(path: str) -> bool:
    """Whether it starts at all: a download may lack libraries of the system."""
    try:
        done = subprocess.run(
            [path, "--no-sandbox", "--version"], capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def install() -> None:
    """Try each way until one leaves a browser that runs."""
    if _answers(CDN):
        _run([sys.executable, "-m", "playwright", "install", "chromium"])
    if find():
        return
    for manager, commands in PACKAGES.items():
        if shutil.which(manager):
            _install_package(manager, commands)
            return


def _install_package(manager: str, commands: Sequence[Sequence[str]]) -> None:
    before: list[str] = []
    if manager != "brew" and os.geteuid() != 0:
        if not shutil.which("sudo") or not _run(["sudo", "-n", "true"], quiet=True):
            return  # asking for a password in the middle of `make test` would only hang
        before = ["sudo", "-n"]
    for command in commands:
        _run([*before, *command])


def _run(command: Sequence[str], *, quiet: bool = False) -> bool:
    if not quiet:
        sys.stdout.write(f"$ {' '.join(command)}\n")
        sys.stdout.flush()
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(command, env=env, timeout=600, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def main() -> None:
    if not find():
        if named := os.environ.get("MISTUDIO_TEST_BROWSER"):
            sys.exit(f"MISTUDIO_TEST_BROWSER: {named} is not a browser that runs here.")
        sys.stdout.write("There is no browser for the tests yet; installing one ...\n")
        install()
    browser = find()
    if browser is None:
        sys.exit(
            "The browser tests need Chromium, and it could not be installed. Install the package "
            "`chromium`, or set MISTUDIO_TEST_BROWSER to a Chromium or Chrome."
        )
    sys.stdout.write(f"Browser of the tests: {browser}\n")


if __name__ == "__main__":
    main()
