"""One Hub: commits, listings, and where the bytes of a file lie."""

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import httpx2
import huggingface_hub as hf
from huggingface_hub.hf_api import RepoFile

from saes import errors
from saes.hub.explain import Asked, explained, not_found
from saes.hub.http import asking, origin_of, ranged
from saes.hub.identity import Identity
from saes.hub.limits import Limits
from saes.hub.network import without_user
from saes.hub.refs import Listing, RemoteFile, RepoRef
from saes.safe_names import why_unsafe
from saes.storage import Expected

MOST_FILES = 400_000  # and folders
LISTING_SECONDS = 60
LARGEST_FILE = 2**50
MOST_PULL_REQUESTS = 50
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
INFO = ["sha", "private", "gated", "lastModified", "cardData", "downloads", "likes"]


class Hub:
    """One Hub and the token to ask it with; None asks anonymously.

    `patience`: seconds that one question may take in all. `limits`: those that all processes share.
    """

    def __init__(
        self,
        endpoint: str,
        token: str | None = None,
        patience: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.endpoint, self._token = endpoint, token
        self._limits = limits or Limits()
        self._patience = patience or LISTING_SECONDS
        self.api = hf.HfApi(endpoint=endpoint, token=token or False)

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
        with explained(self._asked(ref.id)), self._asking():
            info = self.api.repo_info(
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
        with explained(self._asked(pinned.id)), self._asking():
            entries = self.api.list_repo_tree(
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
        with explained(asked), self._asking():
            found = hf.get_hf_file_metadata(url, token=self._token or False, timeout=30)
        if found.commit_hash != listing.commit or found.etag != file.expected.oid:
            raise errors.HubMisbehaved(f"{file.name}: the Hub offers other bytes than it listed.")
        return found.location

    def body(self, url: str, start: int, stop: int) -> AbstractContextManager[httpx2.Response]:
        """An answer with exactly the bytes [start, stop) of `url`. Raises Interrupted."""
        return ranged(url, start, stop, self.endpoint, self._token, self._limits)

    def anonymous(self, patience: float) -> "Hub":
        """The same Hub, as everybody sees it."""
        return Hub(self.endpoint, None, patience, self._limits)

    def whoami(self) -> Identity:
        """Whose token this is. Raises BadToken."""
        with explained(self._asked("this account")), self._asking():
            return Identity.of(self.api.whoami())

    # --- writing --------------------------------------------------------------------------------

    @contextmanager
    def writing(self, repo_id: str, seconds: float | None = None, file: str = "") -> Iterator[None]:
        """Around calls of the client that change a repository: failures are told in our words."""
        asked = Asked(self._address, repo_id, self._token is not None, file, writes=True)
        seconds = seconds or self._patience
        with explained(asked), asking(self.endpoint, seconds, self._limits, sends=True):
            yield

    def create(self, repo_id: str, *, private: bool) -> None:
        """A new repository, empty but for what the Hub puts into it. Raises Conflict, where there
        is one, and AccessDenied."""
        with self.writing(repo_id):
            self.api.create_repo(repo_id, private=private)

    def make_public(self, repo_id: str) -> None:
        with self.writing(repo_id):
            self.api.update_repo_settings(repo_id, private=False)

    def page_of(self, repo_id: str, commit: str) -> str:
        """The address of a commit, for people."""
        return f"{without_user(self.endpoint)}/{repo_id}/commit/{commit}"

    def commits_after(self, repo_id: str, parent: str, revision: str = "main") -> dict[str, str]:
        """What came after `parent`, newest first: descriptions by commit."""
        found: dict[str, str] = {}
        with explained(self._asked(repo_id)), self._asking():
            for it in self.api.list_repo_commits(repo_id, revision=revision):
                if it.commit_id == parent:
                    break
                found[str(it.commit_id)] = str(it.message)
        return found

    def open_pull_requests(self, repo_id: str, author: str) -> list[tuple[str, str]]:
        """Revision and address of each that this account has opened, newest first."""
        with explained(self._asked(repo_id)), self._asking():
            found = self.api.get_repo_discussions(
                repo_id, author=author, discussion_type="pull_request", discussion_status="open"
            )
            some = islice(found, MOST_PULL_REQUESTS)
            return [(str(it.git_reference), without_user(it.url)) for it in some]

    def check_card(self, text: str) -> list[str]:
        """What the Hub's own check says of a README: warnings. Raises BadCard."""
        body = {"content": text, "repoType": "model"}
        with explained(self._asked("this card")), self._asking():
            answer = hf.get_session().post(f"{self.endpoint}/api/validate-yaml", json=body)
            told = answer.json()
            if answer.status_code == 400:
                raise errors.BadCard(f"The Hub refuses the card: {_messages(told, 'errors')}")
            answer.raise_for_status()
        return [it for it in _messages(told, "warnings").splitlines() if it]

    def _asking(self) -> AbstractContextManager[None]:
        return asking(self.endpoint, self._patience, self._limits)

    def _asked(self, repo_id: str, file: str = "") -> Asked:
        return Asked(self._address, repo_id, self._token is not None, file)

    @property
    def _address(self) -> str:
        return "://".join(origin_of(self.endpoint))


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


def _messages(told: Any, kind: str) -> str:
    """The sentences of an answer, a line each: whatever else the Hub says is left out."""
    found = told.get(kind) if isinstance(told, dict) else None
    rows = found if isinstance(found, list) else []
    texts = [it.get("message") for it in rows if isinstance(it, dict)]
    return "\n".join(text[:300] for text in texts if isinstance(text, str))
