"""The library: its list, one SAE, editing, facts, cancelling, retrying and deleting."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.paginator import Page, Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from saes import queries, roles, services, steering
from saes.errors import Conflict, MissingFact, SaeError
from saes.forms import DeleteForm, EditForm, FactsForm, ListForm
from saes.models import Job, Sae
from saes.views.common import Request, editors, go, show, show_error

PAGE_SIZE = 50
P = ParamSpec("P")


def with_sae(
    view: Callable[Concatenate[Request, Sae, P], HttpResponse],
) -> Callable[..., HttpResponse]:
    """The view gets the SAE of the address; an expected error of its work becomes a page."""

    @wraps(view)
    def wrapped(request: Request, sae_id: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        sae = get_object_or_404(Sae, id=sae_id)
        try:
            return view(request, sae, *args, **kwargs)
        except SaeError as error:
            return show_error(request, error, sae=sae)

    return wrapped


@require_GET
def list_saes(request: Request) -> HttpResponse:
    form = ListForm(request.GET)
    form.is_valid()
    asked = form.cleaned_data
    filters = _filters(asked)
    found = queries.matching(filters, asked.get("sort") or "newest")
    page = Paginator(found, PAGE_SIZE).get_page(asked.get("page") or 1)
    part = "saes/list.html#results" if request.htmx else "saes/list.html"
    return show(
        request, part, form=form, page=page, asked=asked, choices=_choices(), query=filters.given(),
        watched=_watched(page), filtered=bool(filters.given()), any_saes=Sae.objects.exists(),
    )  # fmt: skip


def _filters(asked: dict[str, Any]) -> queries.Filters:
    known = {field.name for field in fields(queries.Filters)}
    given = {name: value for name, value in asked.items() if name in known}
    return queries.Filters(**{name: value for name, value in given.items() if value is not None})


def _watched(page: Page[Sae]) -> list[str]:
    """SAEs of this page that may still change: the socket follows these."""
    return [sae.id for sae in page if sae.status not in (Sae.Status.READY, Sae.Status.ERROR)]


def _choices() -> dict[str, list[Any]]:
    """Values to filter by. Kept for seconds: with 100,000 rows they cost more than the page."""
    names = ("format", "model_name", "architecture", "layer")

    def read() -> dict[str, list[Any]]:
        return {
            name: [v for v in _distinct(name) if v not in (None, "")] for name in names
        }  # fmt: skip

    found: dict[str, list[Any]] = cache.get_or_set("library-choices", read, 15) or {}
    return found


def _distinct(column: str) -> list[Any]:
    return list(Sae.objects.order_by(column).values_list(column, flat=True).distinct()[:500])


@require_GET
@with_sae
def detail(request: Request, sae: Sae) -> HttpResponse:
    return show(request, "saes/detail.html", **_detail_context(sae))


def _detail_context(sae: Sae) -> dict[str, Any]:
    missing = [MissingFact(**fact) for fact in sae.missing_facts]
    return {
        "sae": sae,
        "files": sae.files.all(),
        "jobs": sae.jobs.select_related("created_by")[:20],
        "edit_form": EditForm(instance=sae, initial={"tags": ", ".join(sae.tags)}),
        "facts_form": FactsForm(missing=missing or _correctable(sae)),
        "needs_facts": bool(missing),
        "suggested_model": services.suggest_model(sae),
    }


def _correctable(sae: Sae) -> list[MissingFact]:
    """Facts that a user may correct on an SAE that misses none."""
    return [
        MissingFact("model_name", "The model whose activations it reads, as on the Hub."),
        MissingFact("hook_name", "Where in the model, in TransformerLens' words."),
        MissingFact("layer", "The layer, from 0."),
    ]


@require_GET
@with_sae
def card(request: Request, sae: Sae) -> HttpResponse:
    """The live part, for pages without a socket."""
    return show(request, "saes/card.html#card", sae=sae)


@require_POST
@editors
@with_sae
def edit(request: Request, sae: Sae) -> HttpResponse:
    form = EditForm(request.POST, instance=sae)
    if not form.is_valid():
        context = _detail_context(sae) | {"edit_form": form, "editing": True}
        return show(request, "saes/detail.html", status=422, **context)
    data = form.cleaned_data
    services.edit(
        sae, name=data["name"], description=data["description"], notes=data["notes"],
        tags=data["tags"],
    )  # fmt: skip
    return go(request, "saes:detail", sae.id, say="Saved.")


@require_POST
@editors
@with_sae
def facts(request: Request, sae: Sae) -> HttpResponse:
    missing = [MissingFact(**fact) for fact in sae.missing_facts] or _correctable(sae)
    form = FactsForm(request.POST, missing=missing)
    for field in form.fields.values():
        field.required = bool(sae.missing_facts)
    if not form.is_valid():
        context = _detail_context(sae) | {"facts_form": form}
        return show(request, "saes/detail.html", status=422, **context)
    if steering.state_facts(request.user, sae, form.given()):
        return go(request, "saes:detail", sae.id, say="Thank you. It is being converted.")
    return go(request, "saes:detail", sae.id, say="Saved.")


@require_POST
@editors
@with_sae
def cancel(request: Request, sae: Sae) -> HttpResponse:
    """Stop the job. One that has ended meanwhile is left as it is."""
    return _steered(request, sae, steering.cancel)


@require_POST
@editors
@with_sae
def pause(request: Request, sae: Sae) -> HttpResponse:
    return _steered(request, sae, steering.pause)


@require_POST
@editors
@with_sae
def resume(request: Request, sae: Sae) -> HttpResponse:
    return _steered(request, sae, steering.resume)


def _steered(request: Request, sae: Sae, act: Callable[[User, Job], bool]) -> HttpResponse:
    if job := sae.active_job:
        with suppress(Conflict):
            act(request.user, job)
    return _as_it_is_now(request, sae)


@require_POST
@editors
@with_sae
def retry(request: Request, sae: Sae) -> HttpResponse:
    steering.retry(request.user, sae)
    return _as_it_is_now(request, sae)


def _as_it_is_now(request: Request, sae: Sae) -> HttpResponse:
    """The SAE's page; its live part alone where a card's button was pressed through htmx."""
    if not request.htmx:
        return go(request, "saes:detail", sae.id)
    sae.refresh_from_db()
    return show(request, "saes/card.html#card", sae=sae)


@require_http_methods(["GET", "POST"])
@editors
@with_sae
def delete(request: Request, sae: Sae) -> HttpResponse:
    for job in sae.active_jobs:  # else the question would be asked, and the answer refused
        roles.require_control(request.user, job)
    form = DeleteForm(request.POST if request.method == "POST" else None)
    if request.method == "GET" or not form.is_valid():
        part = "saes/delete.html#dialog" if request.htmx else "saes/delete.html"
        size, freed = services.bytes_on_disk(sae), services.bytes_freed(sae)
        return show(request, part, sae=sae, form=form, size=size, freed=freed)
    keep_files = form.cleaned_data["keep_files"]
    kept = steering.delete_sae(request.user, sae, keep_files=keep_files)
    said = f"Deleted {sae.name}. Its files are in {kept}." if kept else f"Deleted {sae.name}."
    return go(request, "saes:list", say=said)
