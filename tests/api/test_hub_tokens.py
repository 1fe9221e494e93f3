"""`GET /hub-tokens`: what there is to choose from, and nothing of the tokens themselves."""

import json

from django.contrib.auth.models import User

from saes import hub_tokens, vault
from tests.api.conftest import ApiClient, client_of
from tests.hub import LocalHub

WRITES, SERVERS = "hf_canary_writes_wxyz", "hf_canary_server_abcd"


def test_stored_tokens_are_listed_by_name(api: ApiClient, owner: User, hub: LocalHub) -> None:
    hub.add_token(WRITES, "alice", "fineGrained", orgs={"lab": "write"}, writes=["alice/saes"])
    vault.keep(None, SERVERS)
    hub_tokens.add(owner, "publishing", WRITES)
    mine, servers = api.get("/hub-tokens")["data"]
    assert (mine["name"], mine["last_four"], mine["usual"]) == ("publishing", "wxyz", True)
    assert (mine["account"], mine["role"]) == ("alice", "fineGrained")
    assert mine["orgs"] == {"lab": "write"}
    assert [it["name"] for it in mine["scopes"]] == ["alice/saes"] and mine["tested_at"]
    assert (servers["name"], servers["of_server"], servers["account"]) == ("HF_TOKEN", True, None)
    assert "canary" not in json.dumps([mine, servers])


def test_nobody_sees_those_of_others(api: ApiClient, owner: User, viewer: User) -> None:
    vault.keep(owner, WRITES)
    vault.keep_for_one_job(viewer, WRITES)
    assert client_of(viewer).get("/hub-tokens") == {"data": []}
