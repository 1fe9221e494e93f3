"""Training runs: their list, one run with the SAEs it holds, and importing of it."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from saes import picking, queries, room, trainings
from saes.errors import SaeError
from saes.models import Training
from saes.picking import Choice, Run
from saes.roles import may_edit
from saes.storage import MARGIN
from saes.views.common import Request, editors, show, show_error
from saes.views.outcome import said_of

PAGE_SIZE = 50
STATUSES = [("", "Any status"), *Training.Status.choices]
EXPORTS = "exports"  # instead of a step


@require_GET
def list_trainings(request: Request) -> HttpResponse:
    trainings.scan()
    search, status = request.GET.get("search", "")[:200], request.GET.get("status", "")
    search = search.replace("\0", "")
    known = status if status in Training.Status.values else ""
    page = Paginator(queries.trainings(search, known), PAGE_SIZE).get_page(request.GET.get("page"))
    part = "saes/trainings.html#results" if request.htmx else "saes/trainings.html"
    return show(
        request, part, page=page, search=search, known=known, statuses=STATUSES,
        runs=[(it, trainings.count_of(it)) for it in page], any_runs=Training.objects.exists(),
        looked_in=settings.TRAININGS_DIR if may_edit(request.user) else None,
    )  # fmt: skip


@require_GET
def training(request: Request, training_id: str) -> HttpResponse:
    """What the run was told, how it ended, and the SAEs of one of its steps."""
    try:
        found = trainings.training_of(training_id)
    except SaeError as error:
        return show_error(request, error)
    try:
        run = _asked_for(request, found)
    except SaeError as error:
        return _show(request, found, problem=error)
    return _show(request, found, run=run, **_to_choose(request, run))


def _show(request: Request, found: Training, **more: Any) -> HttpResponse:
    imported = queries.publishable().filter(training=found)
    can = may_edit(request.user) and imported.exists()
    return show(request, "saes/training.html", training=found, may_publish=can, **more)


def _asked_for(request: Request, found: Training) -> Run:
    step = request.GET.get("step", "")
    number = int(step) if step.isascii() and step.isdigit() and len(step) < 11 else None
    return picking.look(found, number, exports=step == EXPORTS)


def _to_choose(request: Request, run: Run) -> dict[str, Any]:
    begins = [it.item.size for it in run.saes if it.can_begin]
    return {
        "may_choose": may_edit(request.user) and bool(begins),
        "need": room.need_of(begins),
        "margin": MARGIN,
        "keeps_source": settings.KEEP_SOURCE,
        "shows_exports": request.GET.get("step") == EXPORTS,
    }


@require_POST
@editors
def bring_in(request: Request, training_id: str) -> HttpResponse:
    """The SAEs that are ticked, by their paths in the run."""
    paths, name = request.POST.getlist("where"), request.POST.get("name", "")[:150]
    page = reverse("saes:training", args=[training_id])
    if not paths:
        messages.warning(request, "Nothing was chosen. Tick the SAEs that you want first.")
        return HttpResponseRedirect(page)
    try:
        found = trainings.training_of(training_id)
        brought = picking.bring_in(request.user, found, Choice(paths=paths), name.replace("\0", ""))
    except SaeError as error:
        return show_error(request, error)
    if brought.batch is None:
        messages.warning(request, "All of these are in the library already, or on their way.")
        return HttpResponseRedirect(page)
    messages.success(request, said_of(brought))
    return HttpResponseRedirect(f"{reverse('saes:jobs')}?batch={brought.batch.id}")
