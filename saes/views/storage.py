"""What the data directory holds and whether that is right: sums, the doctor, kept files."""

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_POST

from saes import doctor, roles, services, space, upkeep, uploaded
from saes.errors import DataMissing, SaeError
from saes.models import Sae
from saes.templatetags.values import filesize
from saes.views.common import Request, editors, go, show, show_error
from saes.views.library import with_sae

LARGEST = 15
SECONDS = 20.0  # for looking, and for repairing: a page is not waited for longer


@require_GET
def overview(request: Request) -> HttpResponse:
    return _page(request)


@require_GET
def look(request: Request) -> HttpResponse:
    """The doctor's quick look, which changes nothing."""
    try:
        seen = doctor.examine(seconds=SECONDS)
    except SaeError as error:
        return show_error(request, error)
    if request.htmx:
        return show(request, "saes/storage.html#findings", seen=seen, **_rights(request))
    return _page(request, seen=seen)


@require_POST
@editors
def repair(request: Request) -> HttpResponse:
    """Mend what is found now, of the kinds that the question named."""
    delete, kinds = "delete_orphans" in request.POST, set(request.POST.getlist("kind"))
    try:
        found = doctor.examine(seconds=SECONDS).findings
        chosen = [it for it in found if it.kind in kinds]
        outcomes = list(doctor.repair(request.user, chosen, delete_orphans=delete, seconds=SECONDS))
    except SaeError as error:
        return show_error(request, error)
    return _page(request, outcomes=outcomes)


@require_POST
@editors
def verify(request: Request) -> HttpResponse:
    try:
        batch = upkeep.verify_all(request.user)
    except SaeError as error:
        return show_error(request, error)
    return go(request, "saes:storage", say=f"{batch.name}. They are read in the background.")


@require_POST
@editors
@with_sae
def remove_source(request: Request, sae: Sae) -> HttpResponse:
    freed = filesize(upkeep.remove_source(request.user, sae))
    return go(request, "saes:storage", say=f"Removed the downloaded files of {sae.name}: {freed}.")


@require_POST
@editors
def remove_kept(request: Request, name: str) -> HttpResponse:
    try:
        services.library().require_there()
        services.library().remove_kept(name)
    except SaeError as error:
        return show_error(request, error)
    return go(request, "saes:storage", say=f"Removed the kept files of {name}.")


def _page(request: Request, **more: Any) -> HttpResponse:
    """From rows alone, but for what is free and what is kept: nothing of an SAE is looked at."""
    shelf = services.library()
    sums, largest = space.sums(), space.largest(LARGEST)
    context = {
        "sums": sums, "largest": largest, "root": shelf.root, "keep_source": settings.KEEP_SOURCE,
        **_rights(request), **more,
    }  # fmt: skip
    try:
        shelf.require_there()
        kept = shelf.kept()
        context |= {"kept": kept, "verified": upkeep.last_verified()}
        waiting = uploaded.bytes_on_disk()
        context |= {"disk": space.disk(sums, sum(folder.size for folder in kept), waiting)}
    except DataMissing as error:
        context |= {"away": error}
    return show(request, "saes/storage.html", **context)


def _rights(request: Request) -> dict[str, bool]:
    user = request.user
    return {
        "may_repair": user.has_perm(roles.DELETE),
        "may_delete_orphans": user.has_perm(roles.CONTROL),
    }
