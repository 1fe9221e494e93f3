"""Large files on their way up: the batch, signed addresses on the CDN, parts, verification."""

from __future__ import annotations

import hashlib
import hmac
import json
import tempfile
import threading
import time
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from tests.hub.access import refuse
from tests.hub.answers import Answer, Request, as_json, plain
from tests.hub.blobs import Blob, OnDisk
from tests.hub.content import EXPIRED, sign
from tests.hub.repos import Repo
from tests.hub.rights import writable
from tests.hub.routes import ID, Found, Route, find_repo, route

if TYPE_CHECKING:
    from tests.hub.server import LocalHub

STEP = 1 << 16
LFS_JSON = "application/vnd.git-lfs+json; charset=utf-8"


class Uploads:
    """What the CDN was sent, by address and number of the part; 0 is a whole file."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hub-uploads-")
        self._parts: dict[tuple[str, int], tuple[Path, str]] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        self.folder.cleanup()

    def room(self) -> Path:
        return Path(tempfile.mkstemp(dir=self.folder.name)[1])

    def put(self, where: str, number: int, path: Path, etag: str) -> None:
        with self._lock:
            self._parts[where, number] = (path, etag)

    def get(self, where: str, number: int) -> tuple[Path, str] | None:
        with self._lock:
            return self._parts.get((where, number))

    def joined(self, where: str, etags: list[str]) -> Path | None:
        """One file of the parts that are named, if they are those that came."""
        whole = self.room()
        with whole.open("wb") as file:
            for number, etag in enumerate(etags, 1):
                known = self.get(where, number)
                if known is None or known[1] != etag.strip('"'):
                    return None
                file.write(known[0].read_bytes())
        return whole


def stored(repo: Repo, oid: str, size: int | None = None) -> Blob | None:
    """The large file, if the repository has it already, from an upload or from a commit."""
    if oid in repo.objects:
        return repo.objects[oid]
    for commit in list(repo.commits.values()):
        for path, blob in commit.files.items():
            right_size = size in (None, blob.size)
            if right_size and repo.is_lfs(path, blob) and blob.sha256 == oid:
                return blob
    return None


def batch(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    form = json.loads(request.body.read())
    # For a new pull request the client names no branch.
    branch = form.get("ref", {}).get("name", "refs/pr/")
    writable(hub, request, repo, pull=branch.startswith("refs/pr/"))
    many = "multipart" in form.get("transfers", [])
    rows = []
    for wanted in form["objects"]:
        row = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
        if stored(repo, wanted["oid"], wanted["size"]) is None:
            row["actions"] = _actions(hub, repo, wanted["oid"], wanted["size"], many=many)
        rows.append(row)
    made = as_json({"transfer": "multipart" if many else "basic", "objects": rows})
    made.headers["Content-Type"] = LFS_JSON
    return made


def _actions(hub: LocalHub, repo: Repo, oid: str, size: int, *, many: bool) -> dict[str, Any]:
    where = f"/uploads/{repo.kind}s/{quote(repo.id)}/{oid}"
    verify = {"href": f"{hub.url}{_git(repo)}/info/lfs/objects/verify", "header": {}}
    if not many or size < hub.multipart_from:
        return {"upload": {"href": _signed(hub, hub.cdn_url, where, 0)}, "verify": verify}
    header = {"chunk_size": str(hub.part_size)}
    for number in range(1, ceil(size / hub.part_size) + 1):
        header[f"{number:05d}"] = _signed(hub, hub.cdn_url, where, number)
    complete = f"/api/complete_multipart{where}"
    href = _signed(hub, hub.url, complete, 0)
    return {"upload": {"href": href, "header": header}, "verify": verify}


def _git(repo: Repo) -> str:
    return f"/{'datasets/' if repo.kind == 'dataset' else ''}{repo.id}.git"


def _signed(hub: LocalHub, origin: str, where: str, number: int) -> str:
    expires = f"{time.time() + hub.url_lifetime:.3f}"
    query = {"partNumber": str(number), "Expires": expires}
    query["Signature"] = sign(where, str(number), expires)
    return f"{origin}{where}?{urlencode(query)}"


def _permitted(request: Request) -> bool:
    number, expires, signature = (
        request.query.get(name, [""])[0] for name in ("partNumber", "Expires", "Signature")
    )
    good = hmac.compare_digest(signature, sign(request.raw_path, number, expires))
    return good and float(expires) >= time.time()


def put(hub: LocalHub, request: Request, found: Found) -> Answer:
    """On the CDN: the address is the permission, the ETag says what came."""
    if not _permitted(request):
        return plain(EXPIRED, "application/xml", 403)
    path = hub.uploads.room()
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("wb") as file:
        while piece := request.body.read(STEP):
            file.write(piece)
            digest.update(piece)
    number = int(request.query["partNumber"][0])
    hub.uploads.put(request.raw_path, number, path, digest.hexdigest())
    return Answer(200, {"ETag": f'"{digest.hexdigest()}"'})


def complete(hub: LocalHub, request: Request, found: Found) -> Answer:
    """Parts become a file; the client sends no token here, the address is signed."""
    if not _permitted(request):
        raise refuse(request, 403, "", "Signature is invalid or has expired")
    form = json.loads(request.body.read())
    where = found["where"]
    whole = hub.uploads.joined(where, [part["etag"] for part in form["parts"]])
    if whole is None:
        raise refuse(request, 400, "", "One or more of the specified parts could not be found.")
    hub.uploads.put(where, 0, whole, "")
    return as_json({"success": True})


def verify(hub: LocalHub, request: Request, found: Found) -> Answer:
    repo = find_repo(hub, request, found)
    writable(hub, request, repo, pull=True)
    form = json.loads(request.body.read())
    known = hub.uploads.get(f"/uploads/{repo.kind}s/{quote(repo.id)}/{form['oid']}", 0)
    if known is None:
        raise refuse(request, 404, "", f"Object {form['oid']} was not uploaded")
    blob = OnDisk(known[0])
    if (blob.sha256, blob.size) != (form["oid"], form["size"]):
        raise refuse(request, 400, "", f"Object {form['oid']} is not what was announced")
    repo.objects[blob.sha256] = blob
    return as_json({"success": True})


_GIT = rf"/(?:(?P<kind>dataset)s/)?{ID}\.git/info/lfs/objects"
ROUTES: list[Route] = [
    route("POST", f"{_GIT}/batch", batch),
    route("POST", f"{_GIT}/verify", verify),
    route("POST", "/api/complete_multipart(?P<where>/uploads/.+)", complete),
]
CDN_ROUTES: list[Route] = [route("PUT", "/uploads/.+", put)]
