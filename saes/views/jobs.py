"""The page Activity: the jobs that somebody may see, in their order, and steering them."""

from typing import Any, cast

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import trigger_client_event

from saes import activity, roles, steering
from saes.errors import SaeError
from saes.forms import ActivityForm
from saes.models import Batch, Job, JobQuerySet
from saes.views.common import Request, editors, show, show_error

PAGE_SIZE = 50
AHEAD = 8  # of those that wait, so many are followed by the socket: their turn comes next
BATCHES = 30  # to filter by
SAID = {
    "pause": ("Paused", "Nothing here runs or waits."),
    "resume": ("Resumed", "Nothing here is paused."),
    "cancel": ("Cancelled", "Nothing here is still to be done."),
    "front": ("Moved to the front:", "Nothing here waits."),
    "retry": ("Started again:", "Nothing here can be retried as it is."),
    "clear": ("Cleared away", "Nothing here has ended."),
}


@require_GET
def activity_page(request: Request) -> HttpResponse:
    try:
        context = _context(request)
    except SaeError as error:
        return show_error(request, error)
    part = "saes/activity.html#part" if request.htmx else "saes/activity.html"
    return show(request, part, **context)


def _context(request: Request) -> dict[str, Any]:
    asked = _asked(request)
    listed = roles.visible_jobs(request.user).filter(listed=True)
    found = _found(listed, asked)
    there = activity.counts(found)
    jobs = activity.InOrder(found, activity.SHOWN[asked.get("state") or "all"], there)
    page = Paginator(cast(Any, jobs), PAGE_SIZE).get_page(asked.get("page") or 1)
    sections = list(page)
    return {
        "asked": asked, "page": page, "sections": sections, "query": _query(asked),
        "tabs": _tabs(there), "watched": _watched(sections),
        "can": _offers(found, there), **_narrowing(request, listed, asked),
    }  # fmt: skip


def _asked(request: Request) -> dict[str, Any]:
    form = ActivityForm(request.GET)
    form.is_valid()
    return form.cleaned_data


def _found(jobs: JobQuerySet, asked: dict[str, Any]) -> JobQuerySet:
    wanted = {name: asked[name] for name in ("kind", "batch") if asked.get(name)}
    return jobs.filter(**wanted)


def _query(asked: dict[str, Any]) -> str:
    """The filters, for addresses that keep them."""
    kept = {name: asked[name] for name in ("state", "kind", "batch") if asked.get(name)}
    return f"?{urlencode(kept)}" if kept else ""


def _tabs(there: dict[str, int]) -> list[tuple[str, int]]:
    return [(name, sum(there[it] for it in states)) for name, states in activity.SHOWN.items()]


def _watched(sections: list[tuple[str, int, list[Job]]]) -> list[str]:
    """What may change at any moment. What waits further behind is looked at with the page."""
    most = {"running": PAGE_SIZE, "waiting": AHEAD}
    return [job.id for name, _, jobs in sections for job in jobs[: most.get(name, 0)]]


def _offers(found: JobQuerySet, there: dict[str, int]) -> dict[str, int]:
    """How many jobs each button for all would change."""
    state = Job.State
    return {
        "pause": there[state.RUNNING] + there[state.QUEUED],
        "resume": there[state.PAUSED],
        "cancel": sum(there[it] for it in Job.ACTIVE),
        "retry": activity.retryable(found),
        "clear": sum(there[it] for it in activity.ENDED),
    }


def _narrowing(request: Request, listed: JobQuerySet, asked: dict[str, Any]) -> dict[str, Any]:
    """Batches to choose from, and the chosen one as a whole. Raises NotFound."""
    mine = Batch.objects.filter(Exists(listed.filter(batch=OuterRef("pk"))))
    batch = roles.batch_for(request.user, asked["batch"]) if asked.get("batch") else None
    return {
        "kinds": [("", "Any kind"), *Job.Kind.choices],
        "batches": [("", "Any batch"), *mine.values_list("id", "name")[:BATCHES]],
        "batch": batch,
        "whole": activity.summary(batch, roles.visible_jobs(request.user)) if batch else None,
    }


@require_GET
def row(request: Request, job_id: str) -> HttpResponse:
    """One job, for pages without a socket."""
    jobs = activity.rows_of(roles.visible_jobs(request.user))
    return show(request, "saes/job.html#row", job=get_object_or_404(jobs, id=job_id))


# --- steering -------------------------------------------------------------------------------------


@require_POST
@editors
def steer(request: Request, verb: str) -> HttpResponse:
    """Those that the form names; with `all`, whatever matches the filters of the address."""
    if verb not in SAID:
        raise Http404
    asked = _asked(request)
    if request.POST.get("all"):
        jobs = _found(activity.wished(verb), asked)
    else:
        jobs = activity.wished(verb, request.POST.getlist("job")[:PAGE_SIZE])
    changed = steering.steer(request.user, verb, jobs)
    return _and_now(request, _told(verb, changed), asked)


def _told(verb: str, changed: int) -> str:
    done, nothing = SAID[verb]
    return f"{done} {changed:,} job{'' if changed == 1 else 's'}." if changed else nothing


def _and_now(request: Request, said: str, asked: dict[str, Any]) -> HttpResponse:
    """Back to the page; htmx is told only that it changed, and asks for its part anew."""
    if not request.htmx:
        messages.success(request, said)
        return HttpResponseRedirect(reverse("saes:jobs") + _query(asked))
    answer = HttpResponse(status=204)
    trigger_client_event(answer, "mistudio:steered", {"said": said, "target": "body"})
    return answer


@require_GET
@editors
def ask_to_cancel(request: Request) -> HttpResponse:
    """Before many are cancelled: how many, and what becomes of what was fetched."""
    asked = _asked(request)
    part = "saes/cancel_jobs.html#dialog" if request.htmx else "saes/cancel_jobs.html"
    try:
        batch = roles.batch_for(request.user, asked["batch"]) if asked.get("batch") else None
    except SaeError as error:
        return show_error(request, error)
    listed = roles.visible_jobs(request.user).filter(listed=True)
    active = _found(listed, asked).active()
    there = activity.counts(active)
    return show(
        request, part, batch=batch, query=_query(asked), running=there[Job.State.RUNNING],
        count=sum(there.values()), others=active.exclude(created_by=request.user).count(),
    )  # fmt: skip
