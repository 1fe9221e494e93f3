"""The admin of tokens: whose they are and what they may, never what they are."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from saes import api_tokens, vault
from saes.admin.rows import Rows
from saes.models import ApiToken, HubToken
from saes.templatetags.access import identity


@admin.register(ApiToken)
class ApiTokenAdmin(Rows):
    list_display = fields = readonly_fields = (
        "name", "owner", "scope", "ends_in", "created_at", "expires_at", "last_used_at",
        "revoked_at",
    )  # fmt: skip
    list_filter = ("scope", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")
    date_hierarchy = "created_at"
    hidden = frozenset({"digest", "last_four"})
    actions = ("revoke",)

    @admin.display(description="ends in")
    def ends_in(self, token: ApiToken) -> str:
        return f"{api_tokens.PREFIX}…{token.last_four}"

    @admin.action(description="Revoke", permissions=["delete"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiToken]) -> None:
        self.carry_out(request, chosen, "revoked", _revoke)


def _revoke(token: ApiToken) -> None:
    api_tokens.revoke(token.owner, token.pk)


@admin.register(HubToken)
class HubTokenAdmin(Rows):
    list_display = fields = readonly_fields = (
        "fingerprint", "name", "owned_by", "is_usual", "account", "rights", "for_one_job",
        "created_at", "tested_at", "test_error", "last_used_at",
    )  # fmt: skip
    list_filter = ("for_one_job",)
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")
    date_hierarchy = "created_at"
    hidden = frozenset({"secret", "last_four", "identity"})

    @admin.display(description="token")
    def fingerprint(self, token: HubToken) -> str:
        return str(token)

    @admin.display(description="owner", ordering="owner")
    def owned_by(self, token: HubToken) -> Any:
        return token.owner or "the server (HF_TOKEN)"

    @admin.display(description="account on the Hub")
    def account(self, token: HubToken) -> str | None:
        return known.name if (known := identity(token)) else None

    @admin.display(description="what it may")
    def rights(self, token: HubToken) -> str | None:
        return known.describe() if (known := identity(token)) else None

    def delete_model(self, request: HttpRequest, obj: HubToken) -> None:
        super().delete_model(request, obj)
        vault.settle(obj.owner)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[HubToken]) -> None:
        owners = {token.owner for token in queryset.select_related("owner")}
        super().delete_queryset(request, queryset)
        for owner in owners:
            vault.settle(owner)
