"""What was published, and what is on its way to the Hub: the list, one of them, steering it."""

from collections.abc import Callable
from contextlib import suppress

from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from saes import roles, steering
from saes.errors import Conflict, SaeError
from saes.models import Job, Publication, Published
from saes.snippets import Snippet, of_published
from saes.views.common import Request, editors, go, show, show_error

PAGE_SIZE = 50
LIVE = "saes/publication_live.html#live"
VERBS: dict[str, Callable[[User, Job], object]] = {
    "cancel": steering.cancel,
    "pause": steering.pause,
    "resume": steering.resume,
    "retry": steering.retry_job,
}


@require_GET
def history(request: Request) -> HttpResponse:
    found = roles.visible_publications(request.user).select_related("created_by")
    search = request.GET.get("search", "")[:200].replace("\0", "")
    page = Paginator(_matching(found, search), PAGE_SIZE).get_page(request.GET.get("page"))
    part = "saes/publications.html#results" if request.htmx else "saes/publications.html"
    return show(request, part, page=page, search=search)


def _matching(found: QuerySet[Publication], search: str) -> QuerySet[Publication]:
    """By repository, or by the name or folder of an SAE; names are those of when it was asked."""
    if not search:
        return found
    inside = Q(name__icontains=search) | Q(folder__icontains=search)
    named = Published.objects.filter(inside).values("publication")
    return found.filter(Q(repo_id__icontains=search) | Q(id__in=named))


@require_GET
def publication(request: Request, publication_id: str) -> HttpResponse:
    found = _found(request, publication_id)
    return show(request, "saes/publication.html", publication=found, snippet=_snippet(found))


def _found(request: Request, publication_id: str) -> Publication:
    """Those of somebody else are not told apart from none."""
    rows = roles.visible_publications(request.user).select_related("created_by")
    return get_object_or_404(rows, id=publication_id)


def _snippet(publication: Publication) -> Snippet | None:
    """How its first SAE is loaded, once that works as it stands."""
    first = publication.saes.first()
    if first is None or not publication.verified_at:
        return None
    return of_published(publication, first.folder)


@require_GET
def live(request: Request, publication_id: str) -> HttpResponse:
    """The live part, for pages without a socket."""
    return show(request, LIVE, publication=_found(request, publication_id))


@require_POST
@editors
def steer(request: Request, publication_id: str, verb: str) -> HttpResponse:
    """Its newest job; one that has ended meanwhile is left as it is."""
    if verb not in VERBS:
        raise Http404
    job = _found(request, publication_id).jobs.first()
    if job is None:
        raise Http404
    try:
        with suppress(Conflict):
            VERBS[verb](request.user, job)
    except SaeError as error:
        return show_error(request, error)
    if request.htmx:
        return show(request, LIVE, publication=_found(request, publication_id))
    return go(request, "saes:publication", publication_id)
