"""Bringing in many SAEs of a previewed repository at once."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from saes import batches, offers, preview, room, services, vault
from saes.batches import Order
from saes.errors import DiskFull, SaeError
from saes.forms import BatchForm, RepoForm
from saes.hub import RepoRef
from saes.offers import Filters
from saes.preview import Preview, Row
from saes.views.common import Request, editors, show, show_error
from saes.views.hub import address_of, with_token
from saes.views.outcome import said_of

HEAD_SECONDS = 3.0  # what was ordered is clear without knowing where its branch is by now


@require_POST
@editors
def bring_in(request: Request, owner: str, repo: str) -> HttpResponse:
    """The SAEs that are ticked, or all that match, at the commit that the preview showed."""
    form = BatchForm(request.POST)
    if not form.is_valid():
        return show(request, "saes/hub.html", status=422, form=RepoForm(), problem=form.errors)
    try:
        return _bring_in(request, f"{owner}/{repo}", form.cleaned_data)
    except SaeError as error:
        return show_error(request, error, repo_id=f"{owner}/{repo}", token=vault.of(request.user))


def _bring_in(request: Request, repo_id: str, asked: dict[str, Any]) -> HttpResponse:
    named = RepoRef.parse(repo_id, asked["revision"])
    hub, asker = with_token(request)
    found = preview.again(hub, RepoRef(named.id, asked["repo_type"], asked["commit"]), asker)
    rows = _chosen(request, found) if asked["every"] else _ticked(request, found)
    order = Order(model_name=asked["model_name"], asked=named.revision, anyway=asked["anyway"])
    try:
        brought = batches.bring_in(request.user, found, rows, order)
    except DiskFull as error:
        return _no_room(request, error, found, rows)
    page = address_of(RepoRef(named.id, asked["repo_type"], named.revision))
    if brought.batch is None:
        messages.warning(request, _nothing_to_do(rows))
        return HttpResponseRedirect(page)
    messages.success(request, said_of(brought))
    _tell_of_a_newer_commit(request, named, found)
    return HttpResponseRedirect(f"{reverse('saes:jobs')}?batch={brought.batch.id}")


def _chosen(request: Request, found: Preview) -> list[Row]:
    """All that match and are missing: what is here at another commit is left as it is."""
    filters = Filters.of(request.POST)
    missing = (offer.row for offer in offers.offers_of(found) if offer.is_missing)
    return [row for row in missing if filters.match(row)]


def _ticked(request: Request, found: Preview) -> list[Row]:
    return batches.named(found, request.POST.getlist("where"))


def _no_room(request: Request, error: DiskFull, found: Preview, rows: list[Row]) -> HttpResponse:
    """The numbers, and the same order again for whoever wants it all the same."""
    need = room.need_of([row.size for row in batches.still_missing(found, rows)])
    kept = [
        (name, value)
        for name, values in request.POST.lists()
        for value in values
        if name not in ("anyway", "csrfmiddlewaretoken")
    ]
    return show(
        request, "saes/no_room.html", status=error.status, error=error, need=need, kept=kept,
        listing=found.listing,
    )  # fmt: skip


def _nothing_to_do(rows: list[Row]) -> str:
    if not rows:
        return "Nothing was chosen. Tick the SAEs that you want first."
    return "All of these are in the library already, or on their way."


def _tell_of_a_newer_commit(request: Request, named: RepoRef, found: Preview) -> None:
    """The branch may have moved on since the preview; what was ordered is what was shown."""
    shown = found.listing.commit
    if named.revision == shown:
        return
    hub = services.hub_with(vault.reveal(vault.of(request.user)), patience=HEAD_SECONDS)
    try:
        now, _ = hub.resolve(RepoRef(named.id, found.listing.repo_type, named.revision))
    except SaeError:
        return  # who downloads will be told
    if now.revision != shown:
        messages.warning(
            request,
            f"{named.revision or 'The default branch'} of {named.id} is at commit "
            f"{now.revision[:10]} by now. These are of {shown[:10]}, as the preview showed them.",
        )
