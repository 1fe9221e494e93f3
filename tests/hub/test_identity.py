"""Whose token it is and what it may: by OAuth, in organizations with groups, in hostile answers."""

from __future__ import annotations

from typing import Any

import pytest

from saes import errors
from saes.hub import Hub, Identity
from tests.hub import LocalHub
from tests.hub.answers import as_json
from tests.hub.faults import Action
from tests.hub.shipping import our_client, ours

__all__ = ["our_client", "ours"]
OAUTH = {"type": "oauth", "expiresAt": "2099-01-01T00:00:00.000Z"}


def told(ours: Hub, hub: LocalHub, answer: Any) -> Identity:
    """What is made of the Hub's answer to whoami."""
    hub.faults.add("/api/whoami", Action(lambda request, true: as_json(answer)))
    return ours.whoami()


def token(role: str, **more: Any) -> dict[str, Any]:
    return {"type": "access_token", "accessToken": {"role": role, **more}}


@pytest.mark.parametrize(
    "auth", [OAUTH, {**OAUTH, "accessToken": None}, {}, None, token(""), token("guest")]
)
def test_of_a_token_whose_role_is_not_told_the_hub_decides(
    ours: Hub, hub: LocalHub, auth: Any
) -> None:
    made = told(ours, hub, {"name": "alice", "auth": auth, "orgs": [{"name": "lab"}]})
    assert made.name == "alice"
    assert made.describe() == "The Hub does not say what this token may: it will decide."
    for repo_id in ("alice/x", "lab/x", "stranger/x"):
        assert made.why_not_write(repo_id, exists=False) == ""
    assert Identity.from_json(made.to_json()).describe() == made.describe()


def group(role: Any) -> dict[str, Any]:
    return {"name": "interp", "id": "0" * 24, "role": role}


@pytest.mark.parametrize(
    ("groups", "may"),
    [([group("write")], True), ([group("read"), group("contributor")], True),
     ([group("read")], False), ([group(["write"])], False), ([], False), (None, False)],
)  # fmt: skip
def test_whoever_writes_through_a_resource_group_is_not_refused_here(
    ours: Hub, hub: LocalHub, groups: Any, may: bool
) -> None:
    org = {"name": "lab", "roleInOrg": "read", "isEnterprise": True, "resourceGroups": groups}
    made = told(ours, hub, {"name": "alice", "auth": token("write"), "orgs": [org]})
    assert (made.why_not_write("lab/x", exists=True) == "") is may


def test_a_group_that_only_reads_takes_nothing_from_an_admin(ours: Hub, hub: LocalHub) -> None:
    org = {"name": "lab", "roleInOrg": "admin", "resourceGroups": [group("read")]}
    made = told(ours, hub, {"name": "alice", "auth": token("write"), "orgs": [org]})
    assert made.orgs == {"lab": "admin"}


@pytest.mark.parametrize("orgs", [None, []])
def test_an_account_without_organizations_or_scopes_is_one(
    ours: Hub, hub: LocalHub, orgs: Any
) -> None:
    auth = token("fineGrained", fineGrained={"scoped": None})
    made = told(ours, hub, {"name": "alice", "auth": auth, "orgs": orgs})
    assert made.describe() == "Fine-grained: writes nothing."


def test_what_is_told_without_end_is_cut(ours: Hub, hub: LocalHub) -> None:
    scope = {"entity": {"type": "model", "name": "a/b"}, "permissions": ["repo.write"] * 600}
    groups = [group("read")] * 600 + [group("write")]
    orgs = [{"name": f"o{n}", "roleInOrg": "read", "resourceGroups": groups[-9:] if n else groups}
            for n in range(600)]  # fmt: skip
    auth = token("fineGrained", fineGrained={"scoped": [scope] * 600})
    made = told(ours, hub, {"name": "alice", "auth": auth, "orgs": orgs})
    assert (len(made.orgs), len(made.scopes), len(made.scopes[0].permissions)) == (500,) * 3


WRONG: list[Any] = [5, "x", ["x"], {"x": 1}, [5], [["x"]], [None], True]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("at", ["all", "auth", "accessToken", "orgs", "groups", "fine", "scoped"])
def test_a_hostile_shape_is_no_other_error(ours: Hub, hub: LocalHub, at: str, wrong: Any) -> None:
    scoped = wrong if at == "scoped" else []
    fine = wrong if at == "fine" else {"scoped": scoped}
    rights = wrong if at == "accessToken" else {"role": "fineGrained", "fineGrained": fine}
    auth = wrong if at == "auth" else {"accessToken": rights}
    orgs = wrong if at == "orgs" else [{"name": "lab", "resourceGroups": wrong}]
    answer = {"name": "alice", "auth": auth, "orgs": orgs if at in ("orgs", "groups") else []}
    try:
        made = told(ours, hub, wrong if at == "all" else answer)
    except errors.HubMisbehaved:
        return
    assert made.name == "alice" and made.describe().endswith(".")


@pytest.mark.parametrize("name", ["a" * 201, "a\nb", "a\u202eb", 5, None, {}, ["alice"]])
def test_an_account_without_a_usable_name_is_none(ours: Hub, hub: LocalHub, name: Any) -> None:
    with pytest.raises(errors.HubMisbehaved):
        told(ours, hub, {"name": name, "auth": OAUTH})


def test_a_role_of_no_known_shape_is_refused(ours: Hub, hub: LocalHub) -> None:
    for role in (5, ["write"], "a\nb", "x" * 201):
        with pytest.raises(errors.HubMisbehaved):
            told(ours, hub, {"name": "alice", "auth": {"accessToken": {"role": role}}})
