"""What is set or judged beside commits: new repositories, visibility, the card's YAML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.hub.answers import Answer, Request, as_json
from tests.hub.repos import LFS_SUFFIXES, Kind, Repo
from tests.hub.rights import creator, known, writable
from tests.hub.routes import ID, KIND, Found, Route, find_repo, route

if TYPE_CHECKING:
    from tests.hub.server import LocalHub

LFS_RULE = "*{} filter=lfs diff=lfs merge=lfs -text\n"
ATTRIBUTES = "".join(map(LFS_RULE.format, LFS_SUFFIXES)).encode()
LICENSES = (
    *("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m"),
    *("bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl-3.0"),
    *("mpl-2.0", "unlicense", "gemma", "llama2", "llama3", "llama3.1", "other", "unknown"),
)
EMPTY = "empty or missing yaml metadata in repo card"


def create(hub: LocalHub, request: Request, found: Found) -> Answer:
    form = json.loads(request.body.read())
    kind: Kind = "dataset" if form.get("type") == "dataset" else "model"
    user = known(hub, request).user
    namespace = form.get("organization") or user
    token = creator(hub, request, kind, namespace)
    name = f"{namespace}/{form['name']}"
    page = f"{hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
    private = bool(form.get("private")) or form.get("visibility") == "private"
    with hub.repos.lock:
        if hub.repos.get(kind, name):
            said = f"You already created this {kind} repo: {name}"
            return as_json({"error": said, "url": page}, 409)
        hub.repos.add(Repo(name, kind, private, creator=token.user), {".gitattributes": ATTRIBUTES})
    return as_json({"url": page, "name": name, "private": private})


def configure(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    writable(hub, request, repo)
    form = json.loads(request.body.read())
    if "visibility" in form:
        repo.private = form["visibility"] == "private"
    repo.private = form.get("private", repo.private)
    repo.gated = form.get("gated", repo.gated)
    return as_json({"private": repo.private, "gated": repo.gated})


def front_matter(text: str) -> Any:
    """What stands between the lines of dashes, None where there is nothing."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0] != "---" or "---" not in lines[1:]:
        return None
    return yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))


def card_errors(text: str) -> tuple[list[str], list[str]]:
    """Errors and warnings."""
    try:
        card = front_matter(text)
    except yaml.YAMLError as wrong:
        return [f"YAML front matter is invalid: {wrong}"], []
    if not card:
        return [], [EMPTY]
    if not isinstance(card, dict):
        return ['"metadata" must be of type object'], []
    return _license_errors(card.get("license", "mit")), []


def _license_errors(named: object) -> list[str]:
    if not isinstance(named, str):
        return ['"license" must be a string']
    return [] if named in LICENSES else [f'"license" must be one of [{", ".join(LICENSES)}]']


def validate(hub: LocalHub, request: Request, found: Found) -> Answer:
    errors, warnings = card_errors(json.loads(request.body.read())["content"])
    said = {"errors": [{"message": text} for text in errors]}
    said["warnings"] = [{"message": text} for text in warnings]
    return as_json(said, 400 if errors else 200)


ROUTES: list[Route] = [
    route("POST", "/api/repos/create", create),
    route("PUT", f"/api/{KIND}/{ID}/settings", configure),
    route("POST", "/api/validate-yaml", validate),
]
