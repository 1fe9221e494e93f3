"""One Hub: commits, listings, and where the bytes of a file lie."""

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import httpx2
import huggingface_hub as hf
from huggingface_hub.hf_api import RepoFile

from saes import errors
from saes.hub.explain import Asked, explained, not_found
from saes.hub.http import asking, origin_of, ranged
from saes.hub.refs import Listing, RemoteFile, RepoRef
from saes.safe_names import why_unsafe
from saes.storage import Expected

MOST_FILES = 400_000  # and folders
LISTING_SECONDS = 60
LARGEST_FILE = 2**50
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
INFO = ["sha", "private", "gated", "lastModified", "cardData", "downloads", "likes"]


class Hub:
    """One Hub and the token to ask it with; None asks anonymously.

    `patience`: seconds that one question may take in all.
    """

    def __init__(
        self, endpoint: str, token: str | None = None, patience: float | None = None
    ) -> None:
        self.endpoint, self._token = endpoint, token
        self._patience = patience or LISTING_SECONDS
        self._api = hf.HfApi(endpoint=endpoint, token=token or False)

    def resolve(self, ref: RepoRef) -> tuple[RepoRef, Any]:
        """The reference with its commit, and what the Hub says. Datasets may hold SAEs too."""
        try:
            return self._info(ref)
        except errors.RepositoryNotFound:
            if ref.type == "dataset":
                raise
        try:
            return self._info(RepoRef(ref.id, "dataset", ref.revision))
        except errors.RepositoryNotFound:
            raise not_found(self._asked(ref.id)) from None

    def _info(self, ref: RepoRef) -> tuple[RepoRef, Any]:
        with explained(self._asked(ref.id)), asking(self.endpoint, self._patience):
            info = self._api.repo_info(
                ref.id,
                repo_type=ref.type,
                revision=ref.revision or None,
                expand=INFO,  # type: ignore[arg-type]
            )
        if not _SHA1.fullmatch(info.sha or ""):
            raise errors.HubMisbehaved(f"The Hub named no commit for {ref.id}.")
        return RepoRef(ref.id, ref.type, info.sha or ""), info

    def listing(self, pinned: RepoRef, info: Any) -> Listing:
        """One paged listing of a commit, with what resolve() told of its repository. No weights."""
        card = info.card_data or {}
        return replace(
            self.files_at(pinned),
            private=bool(info.private),
            gated=bool(info.gated),
            license=_text(card.get("license")),
            base_model=_text(card.get("base_model")),
            last_modified=info.last_modified,
            downloads=info.downloads or 0,
        )

    def files_at(self, pinned: RepoRef) -> Listing:
        """The files of a commit, with sizes and hashes."""
        with explained(self._asked(pinned.id)), asking(self.endpoint, self._patience):
            entries = self._api.list_repo_tree(
                pinned.id, recursive=True, revision=pinned.revision, repo_type=pinned.type
            )
            files, unsafe = _collect(entries, pinned.id)
        return Listing(pinned.id, pinned.type, pinned.revision, files, unsafe)

    def locate(self, listing: Listing, file: RemoteFile) -> str:
        """Where the bytes lie. Raises HubMisbehaved if they are not those that were listed."""
        url = hf.hf_hub_url(
            listing.repo_id, file.name, repo_type=listing.repo_type, revision=listing.commit,
            endpoint=self.endpoint,
        )  # fmt: skip
        asked = self._asked(listing.repo_id, file.name)
        with explained(asked), asking(self.endpoint, self._patience):
            found = hf.get_hf_file_metadata(url, token=self._token or False, timeout=30)
        if found.commit_hash != listing.commit or found.etag != file.expected.oid:
            raise errors.HubMisbehaved(f"{file.name}: the Hub offers other bytes than it listed.")
        return found.location

    def body(self, url: str, start: int, stop: int) -> AbstractContextManager[httpx2.Response]:
        """An answer with exactly the bytes [start, stop) of `url`. Raises Interrupted."""
        return ranged(url, start, stop, self.endpoint, self._token)

    def _asked(self, repo_id: str, file: str = "") -> Asked:
        return Asked("://".join(origin_of(self.endpoint)), repo_id, self._token is not None, file)


def _collect(entries: Iterable[Any], repo_id: str) -> tuple[dict[str, RemoteFile], tuple[str, ...]]:
    files: dict[str, RemoteFile] = {}
    unsafe: list[str] = []
    for number, entry in enumerate(entries):
        if number >= MOST_FILES or entry.path in files:
            raise errors.HubMisbehaved(f"The listing of {repo_id} does not end.")
        if not isinstance(entry, RepoFile):
            continue
        if why_unsafe(entry.path):
            unsafe.append(entry.path)
        else:
            files[entry.path] = RemoteFile(entry.path, _expected(entry))
    return files, tuple(unsafe)


def _expected(entry: RepoFile) -> Expected:
    """Size and hash. A hash that is none (the Hub masks those of gated files) is left empty."""
    if not 0 <= entry.size < LARGEST_FILE:
        raise errors.HubMisbehaved(f"{entry.path}: the Hub gives no possible size.")
    sha256 = entry.lfs.sha256 if entry.lfs else ""
    if entry.lfs:
        return Expected(entry.size, sha256=sha256 if _SHA256.fullmatch(sha256) else "")
    return Expected(entry.size, git_sha1=entry.blob_id if _SHA1.fullmatch(entry.blob_id) else "")


def _text(value: object) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return first[:200] if isinstance(first, str) else ""
