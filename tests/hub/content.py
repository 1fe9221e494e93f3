"""Where the bytes of a file come from: /resolve, the cache behind it, and the CDN.

Large files are redirected to another origin by an address that is signed and expires;
small ones to a relative address that wants the token again."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode

from tests.hub.access import refuse
from tests.hub.answers import Answer, Request, plain, serve
from tests.hub.blobs import Blob
from tests.hub.repos import Commit, Repo
from tests.hub.routes import ID, KIND, REV, Found, Route, find_commit, find_repo, route

if TYPE_CHECKING:
    from tests.hub.server import LocalHub

SECRET = b"tests only"
TEXT = (".json", ".md", ".txt", ".yaml", ".yml", ".csv", ".py", "LICENSE", ".gitattributes")
EXPIRED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>"
EXPIRED += b"<Message>Request has expired</Message></Error>"


def resolve(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo, commit, path, blob = _open(hub, request, found)
    lfs = repo.is_lfs(path, blob)
    etag = blob.etag(lfs=lfs)
    named = {
        "X-Repo-Commit": commit.sha,
        "X-Linked-Etag": f'"{etag}"',
        "X-Linked-Size": str(blob.size),
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store",
    }
    if lfs:
        return _redirect(302, signed(hub, repo, path, blob), named)
    if repo.gated:  # the live Hub serves these in place
        return _file(request, commit, path, blob)
    cached = f"/api/resolve-cache/{repo.kind}s/{repo.id}/{commit.sha}/{quote(path)}"
    return _redirect(307, f"{cached}?{quote(request.path, safe='')}=&etag=%22{etag}%22", named)


def resolve_cache(hub: LocalHub, request: Request, found: Found) -> Answer:
    _, commit, path, blob = _open(hub, request, found)
    return _file(request, commit, path, blob)


def _open(hub: LocalHub, request: Request, found: Found) -> tuple[Repo, Commit, str, Blob]:
    """The file that is meant, after every check, in the live Hub's order."""
    repo, path = find_repo(hub, request, found), unquote(found["path"])
    request.file = f"{repo.id}/{path}"
    hub.access.enter(request, repo, path)
    commit = find_commit(request, repo, found)
    blob = commit.files.get(path)
    if blob is None:
        raise refuse(request, 404, "EntryNotFound", "Entry not found", commit.sha)
    return repo, commit, path, blob


def _redirect(status: int, target: str, headers: dict[str, str]) -> Answer:
    word = "Found" if status == 302 else "Temporary Redirect"
    made = plain(f"{word}. Redirecting to {target}".encode(), status=status)
    made.headers |= headers | {"Location": target}
    return made


def _file(request: Request, commit: Commit, path: str, blob: Blob) -> Answer:
    named = {"ETag": f'"{blob.git_sha1}"', "X-Repo-Commit": commit.sha}
    return serve(blob, request, named | _labels(path))


def _labels(path: str) -> dict[str, str]:
    name = path.rsplit("/", 1)[-1]
    plain_name = name.encode("ascii", "replace").decode().replace('"', "'")
    shown = "".join(letter if letter.isprintable() else "?" for letter in plain_name)
    kind = "text/plain; charset=utf-8" if name.endswith(TEXT) else "application/octet-stream"
    return {
        "Content-Type": kind,
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}; filename=\"{shown}\";",
    }


def signed(hub: LocalHub, repo: Repo, path: str, blob: Blob) -> str:
    where = f"/repos/{repo.kind}s/{quote(repo.id)}/{quote(blob.sha256, safe='')}"
    hub.keep(where, blob)
    query = {"path": path, "Expires": f"{time.time() + hub.url_lifetime:.3f}"}
    query["Signature"] = sign(where, query["path"], query["Expires"])
    return f"{hub.cdn_url}{where}?{urlencode(query)}"


def sign(where: str, path: str, expires: str) -> str:
    text = f"{where}\n{path}\n{expires}".encode(errors="replace")
    return hmac.new(SECRET, text, hashlib.sha256).hexdigest()


def fetch(hub: LocalHub, request: Request, found: Found) -> Answer:
    """On the CDN: the address is the permission, a token is not looked at."""
    path, expires, signature = (
        request.query.get(name, [""])[0] for name in ("path", "Expires", "Signature")
    )
    request.file = f"{unquote(found['id'])}/{path}"
    good = hmac.compare_digest(signature, sign(request.raw_path, path, expires))
    if not good or float(expires) < time.time():
        return plain(EXPIRED, "application/xml", 403)
    blob = hub.kept(request.raw_path)
    return serve(blob, request, {"ETag": f'"{blob.sha256}"'} | _labels(path))


ROUTES: list[Route] = [
    route("GET HEAD", f"/api/resolve-cache/{KIND}/{ID}/(?P<rev>[^/]+)/(?P<path>.+)", resolve_cache),
    route("GET HEAD", f"/(?:(?P<kind>dataset)s/)?{ID}/resolve/{REV}/(?P<path>.+)", resolve),
]
CDN_ROUTES: list[Route] = [
    route("GET HEAD", "/repos/[^/]+/(?P<id>[^/]+/[^/]+|[^/]+)/[^/]+", fetch),
]
