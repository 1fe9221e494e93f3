"""Whose token it is and what it may do, by the Hub's own word (whoami)."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from saes.errors import HubMisbehaved

READ, WRITE, FINE = "read", "write", "fineGrained"
WRITES_IN_ORG = ("write", "admin", "contributor")
MOST = 500  # scopes and organizations that are looked at


@dataclass(frozen=True)
class Scope:
    """A repository, or all of a user or organization, and what a fine-grained token may there."""

    kind: str  # user, org, model, dataset …
    name: str
    permissions: tuple[str, ...]

    @property
    def writes(self) -> bool:
        return "repo.write" in self.permissions

    def covers(self, repo_id: str, *, exists: bool) -> bool:
        if self.kind in ("user", "org"):
            return self.name == repo_id.partition("/")[0]
        return exists and self.kind == "model" and self.name == repo_id


@dataclass(frozen=True)
class Identity:
    """An account of the Hub as one of its tokens shows it. `orgs`: its role in each.

    Of a token of OAuth the Hub tells no role.
    """

    name: str
    role: str  # of the token: read, write, fineGrained; empty where it is not told
    orgs: Mapping[str, str] = field(default_factory=dict)
    scopes: tuple[Scope, ...] = ()

    @classmethod
    def of(cls, told: Any) -> "Identity":
        """From what whoami answers. Raises HubMisbehaved."""
        try:
            token = (told.get("auth") or {}).get("accessToken")
            orgs = (told.get("orgs") or [])[:MOST]
            return cls(
                _word(told["name"]), "" if token is None else _word(token["role"]),
                {_word(it["name"]): _role(it) for it in orgs},
                _scopes(token or {}),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise HubMisbehaved("The Hub does not say whose token this is.") from error

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Identity":
        scopes = (Scope(it["kind"], it["name"], tuple(it["permissions"])) for it in told["scopes"])
        return cls(told["name"], told["role"], told["orgs"], tuple(scopes))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> str:
        """What the token may, in words."""
        if not self._is_told:
            return "The Hub does not say what this token may: it will decide."
        if self.role == READ:
            return f"Reads what {self.name} may read, and writes nothing."
        if self.role != FINE:
            writable = [self.name, *(org for org, role in self.orgs.items() if _may(role))]
            return f"Reads, and writes to repositories of {_listed(writable)}."
        written = [it.name for it in self.scopes if it.writes]
        read = [it.name for it in self.scopes if not it.writes]
        told = [f"writes to {_listed(written)}"] if written else ["writes nothing"]
        told += [f"reads {_listed(read)}"] if read else []
        return f"Fine-grained: {', '.join(told)}."

    @property
    def may_write(self) -> bool:
        """Somewhere, as far as the Hub says."""
        return self.role != READ and (self.role != FINE or any(it.writes for it in self.scopes))

    def why_not_write(self, repo_id: str, *, exists: bool) -> str:
        """A sentence where the token may not write there; empty where nothing speaks against it.

        `exists`: the repository is there; else it would be created.
        """
        owner = repo_id.partition("/")[0]
        if not self._is_told:
            return ""
        if self.role == READ:
            return f"This token of {self.name} can only read: publishing needs one that may write."
        if owner != self.name and owner not in self.orgs:
            return f"{owner} is neither the account {self.name} nor one of its organizations."
        if owner != self.name and not _may(self.orgs[owner]):
            return f"{self.name} may only read in the organization {owner}."
        if self.role == FINE and not self._is_covered(repo_id, exists=exists):
            what = f"write to {repo_id}" if exists else f"create repositories of {owner}"
            return f"This fine-grained token of {self.name} may not {what}."
        return ""

    @property
    def _is_told(self) -> bool:
        return self.role in (READ, WRITE, FINE)

    def _is_covered(self, repo_id: str, *, exists: bool) -> bool:
        return any(it.writes and it.covers(repo_id, exists=exists) for it in self.scopes)


def _may(role: str) -> bool:
    """Older answers tell no role: then the Hub itself will say."""
    return not role or role in WRITES_IN_ORG


def _role(org: Any) -> str:
    """Empty for a member who may write through a resource group: in which repositories is not
    told."""
    groups = (org.get("resourceGroups") or [])[:MOST]
    through_group = any(it.get("role") in WRITES_IN_ORG for it in groups)
    role = _word(org.get("roleInOrg") or "")
    return role if _may(role) or not through_group else ""


def _scopes(token: Any) -> tuple[Scope, ...]:
    scoped = (token.get("fineGrained") or {}).get("scoped") or []
    return tuple(map(_scope, scoped[:MOST]))


def _scope(told: Any) -> Scope:
    entity = told["entity"]
    permissions = tuple(_word(it) for it in told["permissions"][:MOST])
    return Scope(_word(entity["type"]), _word(entity.get("name") or ""), permissions)


def _word(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise TypeError
    return value


def _listed(names: Iterable[str]) -> str:
    named = list(names)
    shown = ", ".join(named[:5])
    return f"{shown} and {len(named) - 5} more" if len(named) > 5 else shown
