"""Commits that come over the wire, pull requests, and the lists of both."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.hub.access import refuse
from tests.hub.answers import Answer, Request, as_json
from tests.hub.api import date, invented, next_page, page
from tests.hub.blobs import Blob, Bytes, Zeros
from tests.hub.lfs import stored
from tests.hub.repos import Commit, Pull, Repo
from tests.hub.rights import known, writable
from tests.hub.routes import ID, KIND, REV, Found, Route, find_commit, find_repo, route
from tests.hub.settings import card_errors, front_matter

if TYPE_CHECKING:
    from tests.hub.server import LocalHub

COMMITS_PAGE = 50
BEHIND = "A commit has happened since. Please refresh and try again."
Changes = dict[str, Blob | None]


def preupload(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    writable(hub, request, repo, pull=_is_pull(hub, request, repo, found))
    commit = find_commit(request, repo, found)
    form = json.loads(request.body.read())
    ignored = [line for line in _ignored(commit, form).splitlines() if line.strip()]
    rows = [_mode(repo, commit, file["path"], file["size"], ignored) for file in form["files"]]
    return as_json({"files": rows})


def _ignored(commit: Commit, form: dict[str, Any]) -> str:
    """The list that the client sends, else that of the repository."""
    held = commit.files.get(".gitignore")
    return str(form.get("gitIgnore", held.read(0, held.size).decode() if held else ""))


def _mode(repo: Repo, commit: Commit, path: str, size: int, ignored: list[str]) -> dict[str, Any]:
    # The rule looks at the name and the size: the content is not here yet.
    lfs = repo.is_lfs(path, Zeros(size, listing_only=True))
    row: dict[str, Any] = {"path": path, "uploadMode": "lfs" if lfs else "regular"}
    row["shouldIgnore"] = any(fnmatch(path, rule) for rule in ignored)
    if blob := commit.files.get(path):
        row["oid"] = blob.etag(lfs=repo.is_lfs(path, blob))
    return row


def _is_pull(hub: LocalHub, request: Request, repo: Repo, found: Found) -> bool:
    """A new pull request, or one of the writer's own."""
    user = known(hub, request).user
    own = {f"refs/pr/{pull.num}" for pull in repo.pulls if pull.author == user}
    return request.flag("create_pr") or unquote(found["rev"]) in own


def commit(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    author = writable(hub, request, repo, pull=_is_pull(hub, request, repo, found)).user
    lines = [json.loads(line) for line in request.body.read().splitlines() if line]
    head = next(line["value"] for line in lines if line["key"] == "header")
    with hub.repos.lock:
        base = find_commit(request, repo, found)
        changes = _changes(request, repo, base, lines)
        if head.get("parentCommit") not in (None, base.sha):
            raise refuse(request, 412, "", BEHIND)
        ref = unquote(found["rev"])
        if ref not in repo.refs:  # a commit's sha: nothing there can move
            raise refuse(request, 404, "RevisionNotFound", f"Invalid rev id: {ref}")
        pull = _open(repo, base, head, author) if request.flag("create_pr") else None
        ref = f"refs/pr/{pull.num}" if pull else ref
        made = repo.commit(changes, head["summary"], head.get("description", ""), author, ref)
        if ref == "main":
            _read_card(repo, changes)
    return as_json(_told(hub, repo, made, pull))


def _open(repo: Repo, base: Commit, head: dict[str, Any], author: str) -> Pull:
    num = len(repo.pulls) + 1
    made = Pull(num, head["summary"], head.get("description", ""), author, base.date)
    repo.pulls.append(made)
    repo.refs[f"refs/pr/{num}"] = base.sha
    return made


def _told(hub: LocalHub, repo: Repo, made: Commit, pull: Pull | None) -> dict[str, Any]:
    here = f"{hub.url}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.id}"
    told: dict[str, Any] = {"success": True, "commitOid": made.sha, "hookOutput": ""}
    told["commitUrl"] = f"{here}/commit/{made.sha}"
    if pull:
        told["pullRequestUrl"] = f"{here}/discussions/{pull.num}"
    return told


def _changes(
    request: Request, repo: Repo, base: Commit, lines: Iterable[dict[str, Any]]
) -> Changes:
    made: Changes = {}
    for line in lines:
        if line["key"] == "deletedFolder":
            start = line["value"]["path"].rstrip("/") + "/"
            made |= dict.fromkeys(path for path in base.files if path.startswith(start))
        elif line["key"] != "header":
            made[line["value"]["path"]] = _change(request, repo, base, line["key"], line["value"])
    return made


def _change(
    request: Request, repo: Repo, base: Commit, key: str, value: dict[str, Any]
) -> Blob | None:
    if key == "file":
        content = base64.b64decode(value["content"])
        _check_card(request, value["path"], content)
        return Bytes(content)
    if key == "lfsFile":
        blob = stored(repo, value["oid"], value.get("size"))
        if blob is None:
            missing = f"LFS pointer pointed to a file that does not exist: {value['path']}"
            raise refuse(request, 400, "", missing)
        return blob
    if value["path"] not in base.files:
        raise refuse(request, 404, "EntryNotFound", f"{value['path']} does not exist")
    return None


def _check_card(request: Request, path: str, content: bytes) -> None:
    if path == "README.md" and (errors := card_errors(content.decode())[0]):
        raise refuse(request, 400, "", f"Invalid metadata in README.md: {'; '.join(errors)}")


def _read_card(repo: Repo, changes: Changes) -> None:
    """The front matter is what the info of the repository tells as its card."""
    if "README.md" in changes:
        blob = changes["README.md"]
        text = b"".join(blob.pieces()).decode() if blob else ""
        repo.card = front_matter(text)


def commits(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    history = repo.history(find_commit(request, repo, found))
    start, stop = page(request, COMMITS_PAGE)
    made = as_json([_commit_row(commit) for commit in history[start:stop]])
    if stop < len(history):
        made.headers["Link"] = f'<{next_page(request, stop)}>; rel="next"'
    return made


def _commit_row(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.sha,
        "title": commit.title,
        "message": commit.message,
        "authors": [{"user": commit.author}],
        "date": date(commit.date),
    }


def discussions(hub: LocalHub, request: Request, found: Found) -> Answer:
    """One page: there is nothing here but pull requests, and all are open."""
    repo = find_repo(hub, request, found)
    author = request.query.get("author", [""])[0]
    shown = [pull for pull in reversed(repo.pulls) if author in ("", pull.author)]
    if request.query.get("type") == ["discussion"] or request.query.get("status") == ["closed"]:
        shown = []
    rows = [_pull_row(repo, pull) for pull in shown]
    return as_json({"discussions": rows, "count": len(rows), "start": 0})


def _pull_row(repo: Repo, pull: Pull) -> dict[str, Any]:
    return {
        "num": pull.num,
        "title": pull.title,
        "author": {"_id": invented(pull.author, 24), "name": pull.author, "type": "user"},
        "repo": {"name": repo.id, "type": repo.kind},
        "createdAt": date(pull.date),
        "status": "open",
        "isPullRequest": True,
    }


ROUTES: list[Route] = [
    route("POST", f"/api/{KIND}/{ID}/preupload/{REV}", preupload),
    route("POST", f"/api/{KIND}/{ID}/commit/{REV}", commit),
    route("GET", f"/api/{KIND}/{ID}/commits/{REV}", commits),
    route("GET", f"/api/{KIND}/{ID}/discussions", discussions),
]
