"""The Hub: name a repository, see the SAEs it holds, download one."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from saes import preview, services, steering, vault
from saes.errors import SaeError
from saes.forms import DownloadForm, RepoForm
from saes.hub import Hub, RepoRef
from saes.views.common import Request, editors, go, show, show_error

PAGE_SIZE = 50


@require_http_methods(["GET", "POST"])
def search(request: Request) -> HttpResponse:
    """The form that names a repository. A token that comes with it is kept in the vault."""
    form = RepoForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        if token := form.cleaned_data["token"]:
            vault.keep(request.user, token)
        return HttpResponseRedirect(_address(form.cleaned_data["ref"]))
    status = 422 if form.is_bound else 200
    return show(request, "saes/hub.html", status=status, form=form, token=vault.of(request.user))


def _address(ref: RepoRef) -> str:
    query = {"type": ref.type} if ref.type != "model" else {}
    query |= {"revision": ref.revision} if ref.revision else {}
    url = reverse("saes:repo", args=ref.id.split("/"))
    return f"{url}?{urlencode(query)}" if query else url


def _asked(request: Request, owner: str, repo: str) -> RepoRef:
    ref = RepoRef.parse(f"{owner}/{repo}", request.GET.get("revision", ""))
    kind = "dataset" if request.GET.get("type") == "dataset" else "model"
    return RepoRef(ref.id, kind, ref.revision)


def _with_token(request: Request) -> tuple[Hub, tuple[Any, ...]]:
    """The Hub, and who asks it: pages and API share what the same person saw with a token."""
    token = vault.reveal(vault.of(request.user))
    return services.hub_with(token), (request.user.pk, vault.fingerprint(token))


@require_GET
def repo(request: Request, owner: str, repo: str) -> HttpResponse:
    try:
        hub, asker = _with_token(request)
        found = preview.look(hub, _asked(request, owner, repo), asker)
    except SaeError as error:
        form = RepoForm(initial={"repo": f"{owner}/{repo}"})
        token = vault.of(request.user)
        return show_error(request, error, form=form, repo_id=f"{owner}/{repo}", token=token)
    rows, filters = _filtered(request, found.rows)
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    part = "saes/repo.html#rows" if request.htmx else "saes/repo.html"
    return show(
        request, part, preview=found, listing=found.listing, page=page, filters=filters,
        chosen={name: request.GET.get(name, "") for name in FILTERS}, total=len(found.rows),
        here=preview.in_library(found.listing), token=vault.of(request.user),
        revision=request.GET.get("revision", ""),
    )  # fmt: skip


FILTERS: dict[str, Callable[[Any], Any]] = {  # and what their values are sorted by
    "layer": int,
    "hook_type": str,
    "width": preview.width_as_number,
}


def _filtered(
    request: Request, rows: list[preview.Row]
) -> tuple[list[preview.Row], dict[str, list[Any]]]:
    """The rows that match the address, and the values there are to choose from."""
    values = {name: {getattr(row, name) for row in rows} - {None, ""} for name in FILTERS}
    choices = {name: sorted(found, key=FILTERS[name]) for name, found in values.items()}
    for name in FILTERS:
        if wanted := request.GET.get(name):
            rows = [row for row in rows if str(getattr(row, name)) == wanted]
    if text := request.GET.get("search", "").lower():
        rows = [row for row in rows if text in row.where.lower()]
    return rows, choices


@require_GET
def header(request: Request, owner: str, repo: str) -> HttpResponse:
    """One row's true shapes, dtype and architecture: asked for when the row comes into view."""
    where = request.GET.get("where", "")
    try:
        hub, asker = _with_token(request)
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
        sae, job = steering.download(request.user, form.to_request(), previewed=True)
    except SaeError as error:
        return show_error(request, error)
    here = "" if job else "This SAE is in the library already."
    return go(request, "saes:detail", sae.id, say=here)


@require_POST
def forget_token(request: Request) -> HttpResponse:
    vault.forget(request.user)
    return go(request, "saes:hub", say="Your Hub token was removed.")
