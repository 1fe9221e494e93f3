"""Typed readers of the environment: a value that makes no sense stops the start, by name."""

import os
from pathlib import Path
from urllib.parse import urlsplit


class BadVariable(Exception):
    """An environment variable holds nonsense. The message starts with its name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")


def text(name: str, default: str = "") -> str:
    """The variable, or the content of the file that NAME_FILE points to."""
    file = os.environ.get(f"{name}_FILE")
    if file is None:
        return os.environ.get(name, default).strip()
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadVariable(f"{name}_FILE", f"{file!r} cannot be read") from error


def flag(name: str, default: bool = False) -> bool:
    value = text(name).lower()
    if value in ("", "0", "false", "no", "off", "1", "true", "yes", "on"):
        return default if value == "" else value in ("1", "true", "yes", "on")
    raise BadVariable(name, f"{value!r} is neither yes nor no")


def number(name: str, default: int, least: int, most: int) -> int:
    value = text(name)
    if not value:
        return default
    digits = value.isascii() and value.isdigit() and len(value) < 20
    if not digits or not least <= int(value) <= most:
        raise BadVariable(name, f"{value[:40]!r} is not a whole number from {least} to {most}")
    return int(value)


def path(name: str, default: Path) -> Path:
    """An absolute path; relative ones are taken from the working directory."""
    value = text(name)
    if "\0" in value:
        raise BadVariable(name, "a path cannot hold a NUL character")
    try:
        result = Path(value).expanduser().absolute() if value else default
        wrong = result.exists() and not result.is_dir()
    except (OSError, RuntimeError) as error:  # too long, or a ~user who does not exist
        raise BadVariable(name, f"{value[:200]!r} cannot be a folder") from error
    if wrong:
        raise BadVariable(name, f"{str(result)!r} is a file, not a folder")
    return result


def folders(name: str, default: Path) -> dict[str, Path]:
    """Several paths, by names that tell them apart: the last parts of them, numbered if need be."""
    values = [part for part in text(name).split(os.pathsep) if part.strip()]
    if any("\0" in value for value in values):
        raise BadVariable(name, "a path cannot hold a NUL character")
    paths = [Path(value.strip()).expanduser().absolute() for value in values] or [default]
    named: dict[str, Path] = {}
    for it in dict.fromkeys(paths):
        base = it.name.replace(":", "_") or "root"
        labels = (base, *(f"{base}-{number}" for number in range(2, len(paths) + 2)))
        named[next(label for label in labels if label not in named)] = it
    return named


def folder(name: str, default: Path) -> Path:
    """A path as above; the folder is made, for this user alone, if it is not there."""
    result = path(name, default)
    try:
        result.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadVariable(name, f"the folder {str(result)!r} cannot be made") from error
    return result


def token(name: str) -> str:
    """A secret that is sent in a header. A wrong one is not repeated."""
    value = text(name)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadVariable(name, "a token has no spaces and only plain letters and digits")
    return value


def url(name: str, default: str = "", schemes: tuple[str, ...] = ("http", "https")) -> str:
    """A URL with one of these schemes, without a trailing slash."""
    value = text(name, default).rstrip("/")
    if not value:
        return ""
    shown = repr(value) if "@" not in value else "its value"  # which may hold a password
    if not value.isprintable() or " " in value:
        raise BadVariable(name, f"{shown} is not a URL")
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  raises on a port that is no number
    except ValueError as error:
        raise BadVariable(name, f"{shown} is not a URL") from error
    if parts.scheme not in schemes or not (parts.netloc or parts.scheme == "unix"):
        raise BadVariable(name, f"{shown} is not a {' or '.join(schemes)} URL")
    return value


def origin(name: str) -> str:
    """An http URL of a whole host, as browsers write it in Origin: pages are served at its root."""
    value = url(name)
    parts = urlsplit(value)
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise BadVariable(name, f"{value!r} has more than a scheme, a host and a port")
    usual = parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme))
    port = "" if usual else f":{parts.port}"
    return f"{parts.scheme}://{bracketed(parts.hostname or '')}{port}" if value else ""


def bracketed(host: str) -> str:
    """A host as it stands in URLs and Host headers: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def names(name: str) -> list[str]:
    """A list separated by commas. `*` is refused: it would switch off the host check."""
    found = [part.strip() for part in text(name).split(",") if part.strip()]
    for part in found:
        if part == "*" or "/" in part or " " in part:
            raise BadVariable(name, f"{part!r} is not a host name")
    return found
