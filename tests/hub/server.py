"""The hub as a test sees it: two origins on this machine, and everything they serve."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.hub import api, content, lfs, settings, writes
from tests.hub.access import Access, Role
from tests.hub.blobs import Blob
from tests.hub.faults import Faults
from tests.hub.link import Link
from tests.hub.log import Log
from tests.hub.repos import LFS_SUFFIXES, Content, Gate, Kind, Repo, Repos, Request
from tests.hub.routes import Route
from tests.hub.wire import Origin


class LocalHub:
    """Use as a context manager, or call start() and stop().

    `bytes_per_second` is what each connection gets, `link_bytes_per_second` what all those to
    the CDN get together.
    """

    routes: tuple[Route, ...] = (
        *writes.ROUTES,
        *lfs.ROUTES,
        *settings.ROUTES,
        *api.ROUTES,
        *content.ROUTES,
    )

    def __init__(
        self,
        *,
        port: int = 0,
        cdn_port: int = 0,
        log_file: Path | None = None,
        bytes_per_second: float | None = None,
        link_bytes_per_second: float | None = None,
        url_lifetime: float = 3600.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.ports = (port, cdn_port)
        self.bytes_per_second, self.url_lifetime = bytes_per_second, url_lifetime
        self.link = Link(link_bytes_per_second) if link_bytes_per_second else None
        self.tls, self.scheme = tls, "https" if tls else "http"
        self.mask_gated_hashes = True
        self.repos, self.access = Repos(), Access()
        self.faults, self.log = Faults(), Log(log_file)
        # Files from this size on come in parts of that size.
        self.multipart_from, self.part_size = 5_000_000_000, 16_000_000
        self.uploads = lfs.Uploads()
        self.stopping = threading.Event()
        self.crashes: list[BaseException] = []
        self._kept: dict[str, Blob] = {}

    def start(self) -> Self:
        self._hub = Origin(self, "hub", self.ports[0], list(self.routes))
        table = [*content.CDN_ROUTES, *lfs.CDN_ROUTES]
        self._cdn = Origin(self, "cdn", self.ports[1], table, self.link)
        self._hub.thread.start()
        self._cdn.thread.start()
        return self

    def stop(self) -> None:
        """Ends every connection, also those in the middle of a body."""
        self.stopping.set()
        self._hub.stop()
        self._cdn.stop()
        self.uploads.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self.crashes and error is None:
            raise self.crashes[0]

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._hub.server_port}"

    @property
    def cdn_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._cdn.server_port}"

    def add_repo(
        self,
        repo_id: str,
        files: Mapping[str, Content] | None = None,
        *,
        kind: Kind = "model",
        private: bool = False,
        gated: Gate = False,
        card: dict[str, Any] | None = None,
        lfs_from: int = 10_000_000,
        lfs_suffixes: tuple[str, ...] = LFS_SUFFIXES,
        readers: Iterable[str] = (),
    ) -> Repo:
        """Users named in `readers` may see it when it is private and pass its gate."""
        repo = Repo(repo_id, kind, private, gated, card, lfs_from, lfs_suffixes, set(readers))
        return self.repos.add(repo, files or {})

    def repo(self, repo_id: str, kind: Kind = "model") -> Repo:
        found = self.repos.get(kind, repo_id)
        if found is None:
            raise KeyError(repo_id)
        return found

    def commit(
        self,
        repo: Repo | str,
        changes: Mapping[str, Content | None],
        title: str = "Update files",
    ) -> str:
        """The new commit's sha; a path that maps to None is removed."""
        known = self.repo(repo) if isinstance(repo, str) else repo
        return self.repos.commit(known, changes, title)

    def add_token(
        self,
        secret: str,
        user: str,
        role: Role = "read",
        *,
        repos: Iterable[str] = (),
        orgs: Iterable[str] = (),
        writes: Iterable[str] = (),
    ) -> str:
        """`repos` is what a fine-grained token covers beside public repositories, `writes` the
        repositories, users and organizations that it may write to; `orgs` may map to roles."""
        self.access.add(secret, user, role, repos, orgs, writes)
        return secret

    def revoke_token(self, secret: str) -> None:
        self.access.revoke(secret)

    def ask_access(self, repo: Repo | str, user: str, state: Request | None = "accepted") -> None:
        """Sets where the user's request for a gated repository stands; None: never asked."""
        known = self.repo(repo) if isinstance(repo, str) else repo
        known.requests.pop(user, None)
        if state is not None:
            known.requests[user] = state

    def keep(self, where: str, blob: Blob) -> None:
        """The CDN holds what the hub has once sent a client there for."""
        self._kept[where] = blob

    def kept(self, where: str) -> Blob:
        return self._kept[where]
