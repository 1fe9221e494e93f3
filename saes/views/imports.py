"""Importing from folders of the server: look into one, choose, begin."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from saes import demo, folders, imports, room
from saes.errors import SaeError
from saes.folders import Place
from saes.formats.base import ROOT
from saes.forms import ImportForm
from saes.imports import Looked
from saes.storage import MARGIN
from saes.views.common import Request, editors, go, show, show_error

MOST_FOLDERS = 200  # that a page lists


@require_GET
@editors
def folder(request: Request) -> HttpResponse:
    """The import roots; or what lies in a folder, and which SAEs."""
    path = request.GET.get("path", "")
    if not path:
        return show(request, "saes/import.html", roots=_roots())
    try:
        looked = imports.look(request.user, folders.place_of(path))
    except SaeError as error:
        return show_error(request, error, roots=_roots(), path=path)
    return show(request, "saes/import.html", path=path, **_shown(looked))


def _roots() -> list[dict[str, Any]]:
    return [
        {"name": name, "folder": folder, "is_there": folder.is_dir()}
        for name, folder in settings.IMPORT_ROOTS.items()
    ]


def _shown(looked: Looked) -> dict[str, Any]:
    free = [it.row for it in looked.offers if it.can_begin]
    return {
        "looked": looked,
        "place": looked.place,
        "crumbs": _crumbs(looked.place),
        "inner": _folders_in(looked),
        "need": room.need_of([row.size for row in free]),
        "missing": free,
        "margin": MARGIN,
        "keeps_source": settings.KEEP_SOURCE,
        "form": ImportForm(),
    }


def _crumbs(place: Place) -> list[tuple[str, str]]:
    """Each folder above, and the address of its page."""
    parts = [] if place.path == ROOT else place.path.split("/")
    above = [place.root, *parts]
    return [(name, address_of("/".join(above[: n + 1]))) for n, name in enumerate(above)]


def _folders_in(looked: Looked) -> list[tuple[str, str, int]]:
    """The folders one step down that hold files: name, address, how many SAEs."""
    start = "" if looked.place.path == ROOT else f"{looked.place.path}/"
    below = [it for it in looked.source.tree.folders if it != ROOT and it.startswith(start)]
    names = sorted({it.removeprefix(start).split("/")[0] for it in below})
    found = [it.row.where for it in looked.offers]
    return [
        (name, address_of(f"{looked.place.root}/{start}{name}"), _count(found, f"{start}{name}"))
        for name in names[:MOST_FOLDERS]
    ]


def _count(wheres: list[str], folder: str) -> int:
    return sum(where == folder or where.startswith(f"{folder}/") for where in wheres)


def address_of(path: str) -> str:
    return f"{reverse('saes:import')}?{urlencode({'path': path})}"


@require_POST
@editors
def start(request: Request) -> HttpResponse:
    """Bring in the SAEs that are ticked, or all that the folder holds."""
    form = ImportForm(request.POST)
    path, wheres = request.POST.get("path", ""), request.POST.getlist("where")
    if not form.is_valid():
        messages.warning(request, "Nothing was started: the form was not filled in as it should.")
        return HttpResponseRedirect(address_of(path))
    try:
        place = folders.place_of(path)
        if "every" in request.POST:
            offers = imports.look(request.user, place).offers
            wheres = [it.row.where for it in offers if it.can_begin]
        brought = imports.import_chosen(request.user, place, wheres, form.to_wish())
    except SaeError as error:
        return show_error(request, error, roots=_roots(), path=path)
    if brought.batch is None:
        messages.warning(request, "Nothing was started: choose SAEs that are not here yet.")
        return HttpResponseRedirect(address_of(path))
    return HttpResponseRedirect(f"{reverse('saes:jobs')}?batch={brought.batch.id}")


@require_POST
@editors
def make_demo(request: Request) -> HttpResponse:
    try:
        _, sae, _ = demo.make(request.user)
    except SaeError as error:
        return show_error(request, error)
    return go(request, "saes:detail", sae.id, say="A training run was made as well: see Import.")
