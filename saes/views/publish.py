"""Publishing: choose SAEs, say where to, see what would happen, confirm it."""

from collections.abc import Sequence
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from saes import confirming, parcels, publications, queries, roles, trainings, vault
from saes.confirming import Seen
from saes.errors import BadToken, CannotPublish, NotFound, SaeError, TargetMoved
from saes.forms_publishing import PublishForm, as_before, filled_from
from saes.models import HubToken, Sae
from saes.rehearsal import MOST_SAES, Rehearsal
from saes.tending import native_size
from saes.views.common import Request, editors, go, show, show_error
from saes.waiting import tell_when

PAGE_SIZE = 50


@require_GET
@editors
def publish(request: Request) -> HttpResponse:
    """Choose SAEs; or, with those that the address names, say where they go."""
    asked = request.GET
    named = asked.keys() & {"sae", "training", "publication"}
    if "look" in asked or not named:
        return _choose(request)
    try:
        saes, initial = _asked_for(request)
    except SaeError as error:
        return show_error(request, error)
    return _page(request, PublishForm(None, user=request.user, saes=saes, initial=initial))


def _asked_for(request: Request) -> tuple[list[Sae], dict[str, Any]]:
    """SAEs, and what of the form is known. Raises NotFound, CannotPublish."""
    asked = request.GET
    if "publication" in asked:
        row = roles.publication_for(request.user, asked["publication"])
        return _named([it.sae_id for it in row.saes.all() if it.sae_id]), as_before(row)
    if "training" in asked:
        return _of_run(asked["training"]), {}
    return _named(asked.getlist("sae")), {}


def _choose(request: Request) -> HttpResponse:
    search = request.GET.get("search", "")[:200].replace("\0", "")
    found = queries.publishable(search).prefetch_related("files")
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    part = "saes/publish_choose.html#results" if request.htmx else "saes/publish_choose.html"
    any_saes = bool(page.paginator.count) or queries.publishable().exists()
    here = {sae.id for sae in page}
    chosen = [it for it in dict.fromkeys(request.GET.getlist("sae")) if it.isprintable()]
    return show(
        request, part, page=page, search=search, any_saes=any_saes, chosen=chosen[:MOST_SAES],
        chosen_elsewhere=[it for it in chosen[:MOST_SAES] if it not in here],
        none_chosen="go" in request.GET,
    )  # fmt: skip


def _named(ids: Sequence[str]) -> list[Sae]:
    """Raises NotFound, CannotPublish."""
    wanted = [it for it in dict.fromkeys(ids) if it.isprintable()]  # no NUL
    if not wanted or len(wanted) > MOST_SAES:
        raise CannotPublish(f"One to {MOST_SAES:,} SAEs can be published at once.")
    found = Sae.objects.prefetch_related("files").in_bulk(wanted)
    if len(found) < len(wanted):
        raise NotFound("One of these SAEs was deleted.", solution="Choose again.")
    return [found[it] for it in wanted]


def _of_run(training_id: str) -> list[Sae]:
    """What was imported of a training run, by layer. Raises NotFound."""
    trainings.training_of(training_id)
    found = queries.publishable().filter(training=training_id).order_by("layer", "hook_name", "id")
    if not found:
        raise NotFound(
            "Nothing of this training run is in the library and ready.",
            solution="Import its SAEs first.",
        )
    return list(found.defer(None).prefetch_related("files")[:MOST_SAES])


# --- rehearsing -----------------------------------------------------------------------------------


@require_POST
@editors
@never_cache
def rehearse(request: Request) -> HttpResponse:
    """What would happen. It writes nothing to the Hub."""
    try:
        saes = _named(request.POST.getlist("sae"))
    except SaeError as error:
        return show_error(request, error)
    form = PublishForm(request.POST, user=request.user, saes=saes)
    if not form.is_valid() or form.refused:
        return _page(request, form, status=422)
    return _rehearsed(request, form, form.token_row())


def _rehearsed(
    request: Request, form: PublishForm, token: HubToken, seen: Seen | None = None, **more: Any
) -> HttpResponse:
    """`seen`: what was rehearsed before, where that is not what would happen now."""
    wish = form.to_wish()
    try:
        told = publications.rehearse(request.user, form.saes, wish, token)
    except BadToken as error:
        vault.wipe_unused(token)
        form.refuse_token()
        return _page(request, form, status=error.status, problem=error)
    except SaeError as error:
        return _page(request, form, token, status=error.status, problem=error)
    if told.creates and not wish.license:
        form.add_error("license", "A new repository says nothing yet: choose the terms.")
        return _page(request, form, token, status=422)
    return _page(
        request, form, token, told=told, **more, **_to_confirm(request, form, token, told),
        moved=confirming.moved(seen, told) if seen else [],
    )  # fmt: skip


def _to_confirm(
    request: Request, form: PublishForm, token: HubToken, told: Rehearsal
) -> dict[str, Any]:
    unmade = [sae for sae in form.saes if not parcels.export_of(sae)] if told.unmade else []
    return {
        "sealed": confirming.seal(request.user, Seen.of(told, token)),
        "unmade_size": sum(map(native_size, unmade)),
    }


def _page(
    request: Request, form: PublishForm, token: HubToken | None = None, *, status: int = 200,
    problem: SaeError | None = None, **more: Any,
) -> HttpResponse:  # fmt: skip
    """The form, and below it what its rehearsal told. htmx takes in what is to be corrected as
    422 alone."""
    one_time = token if token and token.for_one_job else form.one_time
    part = "saes/publish.html#part" if request.htmx else "saes/publish.html"
    answer = show(
        request, part, status=422 if request.htmx and status >= 400 else status, form=form,
        problem=problem, one_time=one_time, kept=confirming.hide(one_time) if one_time else "",
        **more,
    )  # fmt: skip
    if problem:
        tell_when(answer, problem)
    return answer


# --- confirming -----------------------------------------------------------------------------------


@require_POST
@editors
@never_cache
def start(request: Request) -> HttpResponse:
    """Publish what was rehearsed, as it was sealed then."""
    try:
        seen = confirming.unseal(request.user, request.POST.get("rehearsed", ""))
        saes, token = _named(list(seen.wish.folders)), _token(request, seen)
    except SaeError as error:
        return show_error(request, error)
    form = filled_from(seen.wish, token, user=request.user, saes=saes)
    if not form.is_valid():  # an SAE was deleted, or a token forgotten, meanwhile
        return _page(request, form, token, status=422)
    typed = request.POST.get("typed", "").strip() == seen.wish.repo_id
    if seen.public and not typed:
        return _rehearsed(
            request, form, token, seen, status=422, mistyped=True,
            typed=request.POST.get("typed", "")[:200],
        )  # fmt: skip
    try:
        _, job = publications.publish(
            request.user, saes, seen.wish, token, confirmed=typed, digest=seen.digest
        )
    except TargetMoved as error:
        return _rehearsed(request, form, token, seen, status=error.status, problem=error)
    except SaeError as error:
        return _page(request, form, token, status=error.status, problem=error)
    if job is None:
        return _rehearsed(request, form, token, seen)
    return go(request, "saes:publication", job.publication_id)


def _token(request: Request, seen: Seen) -> HubToken:
    """The one that was rehearsed with; nobody else's. Raises CannotPublish."""
    stored = next((it for it in vault.standing(request.user) if it.pk == seen.token), None)
    token = stored or confirming.one_time(request.user, seen.token)
    if token is None:
        raise CannotPublish(
            "The token that this was rehearsed with is gone.", solution="Rehearse with another one."
        )
    return token
