"""The route of Hub tokens: which ones there are to choose from, by name; never what they are."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from saes import answers, vault
from saes.api.access import who
from saes.api.schemas import problems

router = Router(tags=["publishing"])


class TokenScope(Schema):
    kind: str
    name: str
    permissions: list[str]


class HubTokenAnswer(Schema):
    """`name` is what `token_name` takes; account and rights are as the Hub told them last."""

    name: str
    last_four: str
    usual: bool
    of_server: bool
    account: str | None
    role: str | None
    orgs: dict[str, str]
    scopes: list[TokenScope]
    tested_at: datetime | None
    test_error: str | None
    last_used_at: datetime | None


class HubTokenList(Schema):
    data: list[HubTokenAnswer]


@router.get(
    "hub-tokens", summary="List stored tokens", response={200: HubTokenList, **problems()}
)  # fmt: skip
def list_hub_tokens(request: HttpRequest) -> Any:
    """One's own tokens of the Hub, the usual one first, and that of the server."""
    return {"data": [answers.of_hub_token(row) for row in vault.standing(who(request))]}
