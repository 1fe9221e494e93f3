"""Which function answers which address; an upload module would add its own table here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.hub.access import error, refuse
from tests.hub.answers import Answer, Request
from tests.hub.repos import Commit, Repo

if TYPE_CHECKING:
    from tests.hub.server import LocalHub

Found = re.Match[str]
Action = Callable[["LocalHub", Request, Found], Answer]
Route = tuple[str, re.Pattern[str], Action]

KIND = r"(?P<kind>model|dataset)s"
ID = r"(?P<id>[^/]+/[^/]+|[^/]+)"
REV = r"(?P<rev>refs/(?:pr|convert)/[^/]+|[^/]+)"


def route(methods: str, pattern: str, action: Action) -> Route:
    return (methods, re.compile(pattern), action)


def answer(hub: LocalHub, table: list[Route], request: Request) -> Answer:
    for methods, pattern, action in table:
        found = pattern.fullmatch(request.raw_path)
        if found and request.method in methods.split():
            return action(hub, request, found)
    return error(request, 404, "", "Sorry, we can't find the page you are looking for.")


def find_repo(hub: LocalHub, request: Request, found: Found) -> Repo:
    repo = hub.repos.get(found["kind"] or "model", unquote(found["id"]))
    return hub.access.see(request, repo)


def find_commit(request: Request, repo: Repo, found: Found) -> Commit:
    revision = unquote(found["rev"])
    commit = repo.find(revision)
    if commit is None:
        raise refuse(request, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return commit
