"""Who asks, and what the Hub says to those it does not let in.

Messages and their order follow records of the live Hub that others published: the gate is
asked before revision and file, and README.md and LICENSE at the top stay readable."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.hub.answers import Answer, Refusal, Request, as_json, plain
from tests.hub.repos import Repo

Role = Literal["read", "write", "fineGrained"]
OrgRole = Literal["read", "contributor", "write", "admin"]
NO_TOKEN = "Invalid username or password."
BAD_TOKEN = "Invalid credentials in Authorization header"
NARROW = (
    "Please enable access to public gated repositories in your fine-grained token settings "
    "to view this repository."
)
BEHIND_NO_GATE = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
GATE_WORDS = {
    "pending": "Your request to access {kind} {id} is awaiting a review from the repo authors.",
    "rejected": "Your request to access {kind} {id} has been rejected by the repo's authors.",
    "reset": "Your request to access {kind} {id} has been reset by the repo's authors. "
    "Visit https://huggingface.co/{page} to submit a new request.",
}
NOT_ASKED = (
    "Access to {kind} {id} is restricted and you are not in the authorized list. "
    "Visit https://huggingface.co/{page} to ask for access."
)
NOBODY = (
    "Access to {kind} {id} is restricted. You must have access to it and be authenticated "
    "to access it. Please log in."
)


@dataclass(frozen=True)
class Token:
    user: str
    role: Role = "read"
    repos: frozenset[str] = frozenset()
    orgs: Mapping[str, OrgRole] = field(default_factory=dict)
    # Repositories, users and organizations that a fine-grained token may write to.
    writes: frozenset[str] = frozenset()

    def belongs(self, repo: Repo) -> bool:
        return repo.owner == self.user or repo.owner in self.orgs or self.user in repo.readers

    def covers(self, repo: Repo) -> bool:
        named = self.repos | self.writes
        return self.role != "fineGrained" or bool({repo.id, repo.owner} & named)

    def writes_to(self, namespace: str, repo_id: str = "") -> bool:
        """Whether the token itself allows it, whoever holds it."""
        if self.role == "fineGrained":
            return bool({namespace, repo_id} & self.writes)
        return self.role == "write"

    def creates_in(self, namespace: str) -> bool:
        member = self.orgs.get(namespace, "read") != "read"
        return (namespace == self.user or member) and self.writes_to(namespace)

    def changes(self, repo: Repo) -> bool:
        role = self.orgs.get(repo.owner, "read")
        own = repo.owner == self.user or role in ("write", "admin")
        made = role == "contributor" and repo.creator == self.user
        return (own or made) and self.writes_to(repo.owner, repo.id)


class Access:
    def __init__(self) -> None:
        # Over http the client knows a missing repository by its code only; the live Hub
        # sends none to those without a token.
        self.bare_401 = False
        self.bad_token_message = BAD_TOKEN
        self._tokens: dict[str, Token] = {}
        self._lock = threading.Lock()

    def add(
        self,
        secret: str,
        user: str,
        role: Role,
        repos: Iterable[str],
        orgs: Iterable[str],
        writes: Iterable[str],
    ) -> None:
        """Organizations come with the user's role there, or as names: then it is "write"."""
        roles: Mapping[str, OrgRole]
        roles = orgs if isinstance(orgs, Mapping) else dict.fromkeys(orgs, "write")
        with self._lock:
            self._tokens[secret] = Token(user, role, frozenset(repos), roles, frozenset(writes))

    def revoke(self, secret: str) -> None:
        with self._lock:
            del self._tokens[secret]

    def who(self, request: Request) -> Token | None:
        """None without a token; a token that is not known is refused everywhere."""
        if "Authorization" not in request.headers:
            return None
        with self._lock:
            token = self._tokens.get(request.token or "")
        if token is None:
            raise refuse(request, 401, "", self.bad_token_message)
        return token

    def see(self, request: Request, repo: Repo | None) -> Repo:
        """The repository, if this caller may know that it exists."""
        token = self.who(request)
        if repo is not None and not repo.private:
            return repo
        if token is None:
            code = "" if self.bare_401 else "RepoNotFound"
            raise refuse(request, 401, code, NO_TOKEN)
        if repo is None or not token.belongs(repo):
            raise refuse(request, 404, "RepoNotFound", "Repository not found")
        if not token.covers(repo):
            raise refuse(request, 403, "", NARROW.replace("public gated", "this user's"))
        return repo

    def passes_gate(self, request: Request, repo: Repo) -> bool:
        token = self.who(request)
        if not repo.gated:
            return True
        if token is None or not token.covers(repo):
            return False
        return token.belongs(repo) or repo.requests.get(token.user) == "accepted"

    def enter(self, request: Request, repo: Repo, path: str | None = None) -> None:
        """Lets the caller through to the content, or says why not."""
        if path in BEHIND_NO_GATE or self.passes_gate(request, repo):
            return
        token = self.who(request)
        if token is None:
            raise refuse(request, 401, "GatedRepo", _say(NOBODY, repo))
        if not token.covers(repo):
            raise refuse(request, 403, "", NARROW)
        words = GATE_WORDS.get(repo.requests.get(token.user, ""), NOT_ASKED)
        raise refuse(request, 403, "GatedRepo", _say(words, repo))


def _say(words: str, repo: Repo) -> str:
    page = repo.id if repo.kind == "model" else f"{repo.kind}s/{repo.id}"
    return words.format(kind=repo.kind, id=repo.id, page=page)


def refuse(request: Request, status: int, code: str, message: str, commit: str = "") -> Refusal:
    return Refusal(error(request, status, code, message, commit))


def error(request: Request, status: int, code: str, message: str, commit: str = "") -> Answer:
    """JSON below /api, plain text elsewhere; the client reads the headers."""
    below_api = request.path.startswith("/api/")
    answer = as_json({"error": message}, status) if below_api else plain(message.encode())
    answer.status = status
    header = message.encode("ascii", "replace").decode()
    answer.headers |= {"X-Error-Message": " ".join(header.split())}
    if code:
        answer.headers["X-Error-Code"] = code
    if commit:
        answer.headers["X-Repo-Commit"] = commit
    if status == 401:
        realm = 'Bearer realm="Authentication required", charset="UTF-8"'
        answer.headers["WWW-Authenticate"] = realm
    return answer
