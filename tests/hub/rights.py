"""Who may write, and what the Hub says to those who may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hub.access import NO_TOKEN, Token, refuse
from tests.hub.answers import Request
from tests.hub.repos import Repo

if TYPE_CHECKING:
    from tests.hub.server import LocalHub

NO_CREATION = 'You don\'t have the rights to create a {kind} under the namespace "{name}"'
NO_COMMIT = "Authorization error."
ONLY_PULLS = "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request"


def known(hub: LocalHub, request: Request) -> Token:
    token = hub.access.who(request)
    if token is None:
        raise refuse(request, 401, "", NO_TOKEN)
    return token


def creator(hub: LocalHub, request: Request, kind: str, namespace: str) -> Token:
    token = known(hub, request)
    if not token.creates_in(namespace):
        raise refuse(request, 403, "", NO_CREATION.format(kind=kind, name=namespace))
    return token


def writable(hub: LocalHub, request: Request, repo: Repo, *, pull: bool = False) -> Token:
    """The writer; a pull request may come from whoever sees the content and may write at all."""
    token = known(hub, request)
    if token.changes(repo):
        return token
    if not pull or not hub.access.passes_gate(request, repo):
        raise refuse(request, 403, "", NO_COMMIT if token.role == "read" else ONLY_PULLS)
    if token.role == "read" or (token.role == "fineGrained" and not token.writes_to(token.user)):
        raise refuse(request, 403, "", NO_COMMIT)
    return token
