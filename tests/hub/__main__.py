"""Runs the hub in the foreground, for trials by hand and in a browser."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.hub.server import LocalHub

Files = dict[str, Path]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__)
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--cdn-port", type=int, default=8101)
    parser.add_argument("--samples", type=Path, help="folders with meta.json and repo/")
    parser.add_argument("--repo", action="append", default=[], metavar="OWNER/NAME=FOLDER")
    parser.add_argument("--private", action="append", default=[], metavar="OWNER/NAME")
    parser.add_argument("--gated", action="append", default=[], metavar="OWNER/NAME")
    parser.add_argument("--token", action="append", default=[], metavar="TOKEN=USER")
    parser.add_argument("--log", type=Path, help="a file for one JSON line per request")
    parser.add_argument("--bytes-per-second", type=float, help="of each connection")
    parser.add_argument("--link-bytes-per-second", type=float, help="of all bodies of large files")
    return parser.parse_args()


def folder(root: Path) -> Files:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path for path in files}


def samples(root: Path) -> Iterator[tuple[str, str, Files]]:
    """Name, repository and files of every sample."""
    for meta in sorted(root.glob("*/meta.json")):
        repo_id = json.loads(meta.read_text(encoding="utf-8"))["repo_id"]
        yield meta.parent.name, repo_id, folder(meta.parent / "repo")


def merge(root: Path) -> dict[str, Files]:
    """Samples of one repository together; one that would hide another's files gets a folder."""
    merged: dict[str, Files] = {}
    for name, repo_id, files in samples(root):
        known = merged.setdefault(repo_id, {})
        clash = any(path in known and not same(known[path], files[path]) for path in files)
        known |= {f"{name}/{path}": file for path, file in files.items()} if clash else files
    return merged


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def fill(hub: LocalHub, chosen: argparse.Namespace) -> None:
    repos = merge(chosen.samples) if chosen.samples else {}
    for named in chosen.repo:
        repo_id, _, place = named.partition("=")
        repos.setdefault(repo_id, {}).update(folder(Path(place)))
    for repo_id, files in repos.items():
        repo = hub.add_repo(repo_id, files, private=repo_id in chosen.private)
        repo.gated = "manual" if repo_id in chosen.gated else False
    for named in chosen.token:
        secret, _, user = named.partition("=")
        hub.add_token(secret, user, "write")


def main() -> None:
    chosen = options()
    hub = LocalHub(
        port=chosen.port,
        cdn_port=chosen.cdn_port,
        log_file=chosen.log,
        bytes_per_second=chosen.bytes_per_second,
        link_bytes_per_second=chosen.link_bytes_per_second,
    )
    fill(hub, chosen)
    with hub:
        sys.stdout.write(f"{hub.url}\n")
        sys.stdout.flush()
        try:
            hub.stopping.wait()
        except KeyboardInterrupt:
            sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main()
