"""The Hub: name a repository, see the SAEs it holds, download one."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from saes import bringing, matrix, offers, preview, room, services, vault
from saes.errors import SaeError
from saes.forms import DownloadForm, RepoForm
from saes.hub import Hub, RepoRef
from saes.offers import Filters, Offer, Standing
from saes.roles import may_edit
from saes.storage import MARGIN
from saes.views.common import Request, editors, go, show, show_error

PAGE_SIZE = 50


@require_http_methods(["GET", "POST"])
def search(request: Request) -> HttpResponse:
    """The form that names a repository. A token that comes with it is kept in the vault."""
    form = RepoForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        if token := form.cleaned_data["token"]:
            _take(request, token)
        return HttpResponseRedirect(address_of(form.cleaned_data["ref"]))
    status = 422 if form.is_bound else 200
    return show(request, "saes/hub.html", status=status, form=form, token=vault.of(request.user))


def _take(request: Request, token: str) -> None:
    """The preview that follows goes with it, so it becomes the usual one."""
    row = vault.keep(request.user, token)
    if not row.is_usual:
        vault.make_usual(request.user, row.id)
        messages.success(request, f"Your usual Hub token is {row.name} now.")


def address_of(ref: RepoRef) -> str:
    query = {"type": ref.type} if ref.type != "model" else {}
    query |= {"revision": ref.revision} if ref.revision else {}
    url = reverse("saes:repo", args=ref.id.split("/"))
    return f"{url}?{urlencode(query)}" if query else url


def _asked(request: Request, owner: str, repo: str) -> RepoRef:
    ref = RepoRef.parse(f"{owner}/{repo}", request.GET.get("revision", ""))
    kind = "dataset" if request.GET.get("type") == "dataset" else "model"
    return RepoRef(ref.id, kind, ref.revision)


def with_token(request: Request) -> tuple[Hub, tuple[Any, ...]]:
    """The Hub, and who asks it: pages and API share what the same person saw with a token."""
    token = vault.reveal(vault.of(request.user))
    return services.hub_with(token), (request.user.pk, vault.fingerprint(token))


@require_GET
def repo(request: Request, owner: str, repo: str) -> HttpResponse:
    try:
        hub, asker = with_token(request)
        found = preview.look(hub, _asked(request, owner, repo), asker)
    except SaeError as error:
        form = RepoForm(initial={"repo": f"{owner}/{repo}"})
        token = vault.of(request.user)
        return show_error(request, error, form=form, repo_id=f"{owner}/{repo}", token=token)
    part = "saes/repo.html#rows" if request.htmx else "saes/repo.html"
    filters = Filters.of(request.GET)
    every = offers.offers_of(found)
    matching = [offer for offer in every if filters.match(offer.row)]
    return show(
        request, part, preview=found, listing=found.listing, filters=filters, total=len(every),
        choices=offers.choices(found.rows), l0_range=offers.l0_range(found.rows),
        token=vault.of(request.user), revision=request.GET.get("revision", ""),
        **_view(request, found.rows, matching), **_to_choose(request, found, matching),
    )  # fmt: skip


def _view(request: Request, rows: list[preview.Row], matching: list[Offer]) -> dict[str, Any]:
    """Matrices where there is something to cross, unless the table is asked for."""
    crosses = matrix.can_cross(rows)
    if crosses and request.GET.get("view") != "table":
        return {"crosses": True, "count": len(matching), "matrices": matrix.crossed(matching)}
    page = Paginator(matching, PAGE_SIZE).get_page(request.GET.get("page"))
    return {"crosses": crosses, "count": len(matching), "page": page}


def _to_choose(request: Request, found: preview.Preview, matching: list[Offer]) -> dict[str, Any]:
    """What "all that match" means, and how the others stand."""
    missing = [offer.row for offer in matching if offer.is_missing]
    there = {offer.standing for offer in matching}
    begins = any(offer.can_begin for offer in matching)
    return {
        "may_choose": may_edit(request.user) and found.access_problem is None and begins,
        "missing": missing,
        "need": room.need_of([row.size for row in missing]),
        "at_once": len(missing) <= matrix.MOST_OFFERS,
        "standings": [it for it in Standing if it in there and it != Standing.NEW],
        "margin": MARGIN,
        "keeps_source": settings.KEEP_SOURCE,
    }


@require_GET
def header(request: Request, owner: str, repo: str) -> HttpResponse:
    """One row's true shapes, dtype and architecture: asked for when the row comes into view."""
    where = request.GET.get("where", "")
    try:
        hub, asker = with_token(request)
        found = preview.again(hub, _asked(request, owner, repo), asker)
        info = found.header(where)
    except SaeError as error:
        return show(request, "saes/repo.html#header", error=error)
    return show(request, "saes/repo.html#header", info=info)


@require_POST
@editors
def download(request: Request) -> HttpResponse:
    form = DownloadForm(request.POST)
    if not form.is_valid():
        return show(request, "saes/hub.html", status=422, form=RepoForm(), problem=form.errors)
    try:
        sae, job = bringing.download(request.user, form.to_request(), previewed=True)
    except SaeError as error:
        return show_error(request, error)
    here = "" if job else "This SAE is in the library already."
    return go(request, "saes:detail", sae.id, say=here)


@require_POST
def forget_token(request: Request) -> HttpResponse:
    vault.forget(request.user)
    return go(request, "saes:hub", say="Your Hub token was removed.")
