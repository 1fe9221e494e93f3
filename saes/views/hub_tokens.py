"""One's own tokens of the Hub: added, tested, chosen from and removed; never shown."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST
from django_htmx.http import trigger_client_event

from saes import hub_tokens, vault
from saes.errors import SaeError
from saes.forms import HubTokenForm
from saes.hub_tokens import Added
from saes.models import HubToken
from saes.views.common import Request, go, show, show_error


@never_cache
@sensitive_post_parameters("token", "name")
@require_http_methods(["GET", "POST"])
def overview(request: Request) -> HttpResponse:
    """A new token is tested at once: what the Hub does not know is not kept."""
    form = HubTokenForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            added = hub_tokens.add(request.user, **form.cleaned_data)
        except SaeError as error:
            form.add_error("token", f"{error} It was not stored.")
        else:
            return go(request, "saes:hub-tokens", say=_said(added))
    status = 422 if form.is_bound else 200
    tokens = vault.standing(request.user)
    return show(request, "saes/hub_tokens.html", status=status, form=form, tokens=tokens)


def _said(added: Added) -> str:
    verb = "Replaced" if added.replaced else "Added"
    if added.untested:
        return f"{verb} {added.row.name}, and not tested: {added.untested}"
    return f"{verb} {added.row.name}: the Hub knows this token."


@never_cache
@require_POST
def test(request: Request, hub_token_id: int) -> HttpResponse:
    row = _own(request, hub_token_id)
    try:
        hub_tokens.test(row)
    except SaeError as error:
        return show_error(request, error)
    said = f"{row.name}: {row.test_error or 'the Hub knows this token.'}"
    if not request.htmx:
        return go(request, "saes:hub-tokens", say=said)
    answer = show(request, "saes/hub_tokens.html#row", it=row)
    return trigger_client_event(answer, "mistudio:said", {"said": said})


@require_POST
def make_usual(request: Request, hub_token_id: int) -> HttpResponse:
    row = _own(request, hub_token_id)
    vault.make_usual(request.user, row.id)
    return go(request, "saes:hub-tokens", say=f"{row.name} is the usual one now.")


@never_cache
@require_http_methods(["GET", "POST"])
def remove(request: Request, hub_token_id: int) -> HttpResponse:
    """A GET asks."""
    row = _own(request, hub_token_id)
    if request.method == "GET":
        part = "saes/remove_hub_token.html#dialog" if request.htmx else "saes/remove_hub_token.html"
        return show(request, part, row=row, jobs=row.job_set.active().count())
    vault.forget(request.user, row.id)
    return go(request, "saes:hub-tokens", say=f"Removed {row.name}.")


def _own(request: Request, hub_token_id: int) -> HubToken:
    """That of somebody else is not told apart from none; nobody's own is the server's."""
    mine = {"owner": request.user, "for_one_job": False}
    return get_object_or_404(HubToken, id=hub_token_id, **mine)
