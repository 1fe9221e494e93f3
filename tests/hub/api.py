"""What is below /api: facts about repositories and listings of their files."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode

from tests.hub.access import NO_TOKEN, Token, refuse
from tests.hub.answers import Answer, Request, as_json, plain
from tests.hub.blobs import Blob
from tests.hub.repos import BORN, Commit, Repo
from tests.hub.routes import ID, KIND, REV, Found, Route, find_commit, find_repo, route

if TYPE_CHECKING:
    from tests.hub.server import LocalHub

PAGE, EXPANDED_PAGE = 1000, 50
MASK = "*" * 64
UNSCANNED = {"status": "safe", "avScan": None, "pickleImportScan": None}


def date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def invented(text: str, length: int) -> str:
    return hashlib.sha1(text.encode(errors="replace"), usedforsecurity=False).hexdigest()[:length]


def info(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    commit = find_commit(request, repo, found) if found["rev"] else repo.head
    facts = summary(repo) | {
        "sha": commit.sha,
        "lastModified": date(commit.date),
        "cardData": repo.card,
        "siblings": siblings(hub, request, repo, commit),
        "usedStorage": sum(blob.size for blob in commit.files.values()),
    }
    wanted = request.query.get("expand", []) + request.query.get("expand[]", [])
    if wanted:
        facts = {name: facts[name] for name in ["_id", "id", *wanted] if name in facts}
    return as_json(facts)


def summary(repo: Repo) -> dict[str, Any]:
    card = repo.card or {}
    facts = {
        "_id": invented(f"{repo.kind}:{repo.id}", 24),
        "id": repo.id,
        "author": repo.owner,
        "sha": repo.sha,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "likes": repo.likes,
        "downloads": repo.downloads,
        "tags": tags(repo),
        "createdAt": date(BORN),
        "lastModified": date(repo.head.date),
    }
    if repo.kind == "model":
        facts["modelId"] = repo.id
        facts |= {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}
    return facts


def tags(repo: Repo) -> list[str]:
    card = repo.card or {}
    named = [str(card[key]) for key in ("library_name", "pipeline_tag") if key in card]
    licence = [f"license:{card['license']}"] if "license" in card else []
    return [*named, *card.get("tags", []), *licence, "region:us"]


def siblings(hub: LocalHub, request: Request, repo: Repo, commit: Commit) -> list[dict[str, Any]]:
    paths = sorted(commit.files)[: repo.siblings_cap]
    if not request.flag("blobs"):
        return [{"rfilename": path} for path in paths]
    masked = hides_hashes(hub, request, repo)
    rows = [file_row(repo, path, commit.files[path], masked=masked) for path in paths]
    return [_sibling(row) for row in rows]


def _sibling(row: dict[str, Any]) -> dict[str, Any]:
    made = {"rfilename": row["path"], "blobId": row["oid"], "size": row["size"]}
    if lfs := row.get("lfs"):
        made["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    return made


def hides_hashes(hub: LocalHub, request: Request, repo: Repo) -> bool:
    """The listing of a gated repository is public, but not the sha256 of its files."""
    return hub.mask_gated_hashes and not hub.access.passes_gate(request, repo)


def file_row(repo: Repo, path: str, blob: Blob, *, masked: bool = False) -> dict[str, Any]:
    if not repo.is_lfs(path, blob):
        return {"type": "file", "oid": blob.git_sha1, "size": blob.size, "path": path}
    pointer = blob.pointer
    oid = hashlib.sha1(b"blob %d\0%b" % (len(pointer), pointer), usedforsecurity=False)
    lfs = {"oid": MASK if masked else blob.sha256, "size": blob.size, "pointerSize": len(pointer)}
    row = {"type": "file", "oid": oid.hexdigest(), "size": blob.size, "path": path}
    return row | {"lfs": lfs}


def row(
    repo: Repo, commit: Commit, path: str, blob: Blob | None, *, expand: bool, masked: bool
) -> dict[str, Any]:
    if blob is None:
        oid = invented(f"{commit.sha} {path}", 40)
        made: dict[str, Any] = {"type": "directory", "oid": oid, "size": 0, "path": path}
    else:
        made = file_row(repo, path, blob, masked=masked)
        if expand:
            made["securityFileStatus"] = UNSCANNED
    if expand:
        last = {"id": commit.sha, "title": commit.title, "date": date(commit.date)}
        made["lastCommit"] = last
    return made


def tree(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    commit = find_commit(request, repo, found)
    folder = unquote(found["path"] or "").strip("/")
    listing = commit.listing(folder, recursive=request.flag("recursive"))
    if folder and not listing:
        missing = f'{folder} does not exist on "{unquote(found["rev"])}"'
        raise refuse(request, 404, "EntryNotFound", missing, commit.sha)
    expand = request.flag("expand")
    start, stop = page(request, EXPANDED_PAGE if expand else PAGE)
    masked = hides_hashes(hub, request, repo)
    rows = [
        row(repo, commit, path, blob, expand=expand, masked=masked)
        for path, blob in listing[start:stop]
    ]
    made = as_json(rows)
    if stop < len(listing):
        made.headers["Link"] = f'<{next_page(request, stop)}>; rel="next"'
    return made


def page(request: Request, cap: int) -> tuple[int, int]:
    cursor = request.query.get("cursor", [""])[0]
    limit = request.query.get("limit", [""])[0]
    try:
        start = int(base64.urlsafe_b64decode(cursor) or 0)
        return start, start + min(int(limit or cap), cap)
    except ValueError as wrong:
        raise refuse(request, 400, "", "Invalid cursor or limit") from wrong


def next_page(request: Request, start: int) -> str:
    cursor = base64.urlsafe_b64encode(str(start).encode()).decode()
    query = {name: values[0] for name, values in request.query.items()} | {"cursor": cursor}
    return f"{request.base}{request.raw_path}?{urlencode(query)}"


def paths_info(hub: LocalHub, request: Request, found: Found) -> Answer:
    """Rows of the named paths; those that do not exist are left out."""
    repo = find_repo(hub, request, found)
    commit = find_commit(request, repo, found)
    text = request.body.read()
    if "json" in request.headers.get("Content-Type", ""):
        form = json.loads(text)
        paths, expand = form["paths"], bool(form.get("expand"))
    else:
        fields = parse_qs(text.decode())
        paths = fields.get("paths", [])
        expand = fields.get("expand", [""])[0].lower() == "true"
    known, masked = dict(commit.rows), hides_hashes(hub, request, repo)
    return as_json(
        [
            row(repo, commit, path, known[path], expand=expand, masked=masked)
            for path in paths
            if path in known
        ]
    )


def scopes(token: Token) -> list[dict[str, Any]]:
    """What a fine-grained token may do, for each repository, user or organization."""
    made = []
    for name in sorted(token.repos | token.writes):
        kind = "model" if "/" in name else "user" if name == token.user else "org"
        rights = ["repo.content.read"] + ["repo.write"] * (name in token.writes)
        made.append({"entity": {"type": kind, "name": name}, "permissions": rights})
    return made


def whoami(hub: LocalHub, request: Request, found: Found) -> Answer:
    token = hub.access.who(request)
    if token is None:
        raise refuse(request, 401, "", NO_TOKEN)
    rights: dict[str, Any] = {"displayName": f"{token.user}'s", "role": token.role}
    rights["createdAt"] = date(BORN)
    if token.role == "fineGrained":
        rights["fineGrained"] = {
            "canReadGatedRepos": bool(token.repos),
            "global": [],
            "scoped": scopes(token),
        }
    facts = {
        "type": "user",
        "id": invented(token.user, 24),
        "name": token.user,
        "fullname": token.user.title(),
        "isPro": False,
        "orgs": [
            {"type": "org", "name": name, "roleInOrg": role}
            for name, role in sorted(token.orgs.items())
        ],
        "auth": {"type": "access_token", "accessToken": rights},
    }
    return as_json(facts)


def auth_check(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    hub.access.enter(request, repo)
    return plain(b"OK")


def refs(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
        for name, sha in repo.refs.items()
        if not name.startswith("refs/")
    ]
    return as_json({"branches": branches, "converts": [], "tags": []})


def search(hub: LocalHub, request: Request, found: Found) -> Answer:
    """Public repositories whose name holds every word of `search`."""
    hub.access.who(request)
    words = request.query.get("search", [""])[0].lower().split()
    author = request.query.get("author", [""])[0]
    shown = [
        summary(repo)
        for repo in hub.repos.of_kind(found["kind"])
        if not repo.private
        and all(word in repo.id.lower() for word in words)
        and author in ("", repo.owner)
    ]
    return as_json(shown[: int(request.query.get("limit", ["1000"])[0])])


ROUTES: list[Route] = [
    route("GET HEAD", "/api/whoami-v2", whoami),
    route("GET", f"/api/{KIND}", search),
    route("GET", f"/api/{KIND}/{ID}/tree/{REV}(?:/(?P<path>.*))?", tree),
    route("POST", f"/api/{KIND}/{ID}/paths-info/{REV}", paths_info),
    route("GET", f"/api/{KIND}/{ID}/auth-check", auth_check),
    route("GET", f"/api/{KIND}/{ID}/refs", refs),
    route("GET HEAD", f"/api/{KIND}/{ID}(?:/revision/{REV})?", info),
]
