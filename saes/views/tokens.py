"""One's own API tokens: each is shown once, on the answer that makes it, and nowhere else."""

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from saes import api_tokens, roles
from saes.forms import TokenForm
from saes.models import ApiToken
from saes.views.common import Request, go, show


@never_cache
@require_http_methods(["GET", "POST"])
def overview(request: Request) -> HttpResponse:
    """No redirect after a POST: the token would have to be kept until the next request."""
    may_write = roles.may_edit(request.user)
    form = TokenForm(request.POST if request.method == "POST" else None, may_write=may_write)
    if request.method == "GET":
        return _page(request, form)
    if not form.is_valid():
        return _page(request, form, status=422)
    data = form.cleaned_data
    row, token = api_tokens.create(request.user, data["name"], data["scope"], form.expires_at())
    return _page(request, TokenForm(may_write=may_write), made=row, token=token)


def _page(request: Request, form: TokenForm, *, status: int = 200, **more: Any) -> HttpResponse:
    return show(
        request, "saes/tokens.html", status=status, form=form, **more,
        tokens=ApiToken.objects.filter(owner=request.user),
        base_url=settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/"),
    )  # fmt: skip


@never_cache
@require_http_methods(["GET", "POST"])
def revoke(request: Request, token_id: int) -> HttpResponse:
    """A GET asks; the token of somebody else is not told apart from none."""
    row = get_object_or_404(ApiToken, id=token_id, owner=request.user)
    if request.method == "GET":
        part = "saes/revoke.html#dialog" if request.htmx else "saes/revoke.html"
        return show(request, part, row=row)
    api_tokens.revoke(request.user, row.id)
    return go(request, "saes:tokens", say=f"Revoked {row.name}.")
