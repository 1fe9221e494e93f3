"""Uploads: sending files, looking at what is in them, importing those that are chosen."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from saes import folders, imports, roles, room, services, uploaded, uploads
from saes.batches import Brought
from saes.errors import BadBody, DataMissing, NotFound, SaeError
from saes.folders import Place
from saes.forms import ChosenForm
from saes.imports import Looked, Wish
from saes.models import Upload
from saes.roles import may_edit
from saes.storage import MARGIN
from saes.views.common import Request, editors, go, show, show_error
from saes.views.sent import is_own_form


@require_GET
def overview(request: Request) -> HttpResponse:
    """The form, and what this user uploaded and has not imported yet."""
    try:
        free = max(0, services.library().free() - room.promised() - MARGIN)
    except OSError:
        return show_error(request, DataMissing("The data directory is not there."))
    return show(
        request, "saes/uploads.html", waiting=uploaded.of(request.user), free=free,
        ticket=uploads.ticket(request.user), piece=uploads.PIECE, most=uploads.MOST_FILES,
    )  # fmt: skip


# --- sending -------------------------------------------------------------------------------------


@require_POST
@editors
def announce(request: Request) -> HttpResponse:
    """`{"files": [{"name": …, "size": …}]}`: what is going to be sent."""
    try:
        made = uploads.announce(request.user, _json(request).get("files"))
    except SaeError as error:
        return _problem(error)
    return JsonResponse(
        {
            "id": made.id, "is_whole": made.is_whole,
            "page": reverse("saes:upload", args=[made.id]),
            "pieces": reverse("saes:upload-piece", args=[made.id]),
            "discard": reverse("saes:discard-upload", args=[made.id]),
        }
    )  # fmt: skip


def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise BadBody("The body is no JSON.") from error
    if not isinstance(body, dict):
        raise BadBody("The body should be a JSON object.")
    return body


@require_POST
@editors
def piece(request: Request, upload_id: str) -> HttpResponse:
    """The body is bytes of the file `?file=` from `?offset=` on. It is never whole in memory."""
    try:
        upload = roles.upload_for(request.user, upload_id)
        number, offset = (_number(request.GET.get(it, "")) for it in ("file", "offset"))
        length = _number(request.headers.get("Content-Length") or "0")
        received = uploads.append(upload, number, offset, length, request)
    except SaeError as error:
        return _problem(error)
    return JsonResponse({"here": received.here, "is_whole": received.is_whole})


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise BadBody("A piece needs file, offset and Content-Length, each a whole number.")
    return int(text)


def _problem(error: SaeError) -> JsonResponse:
    return JsonResponse(error.to_json(), status=error.status)


@require_POST
@editors
def send(request: Request, ticket: str) -> HttpResponse:
    """The form without JavaScript: its files are on the disk already."""
    if not is_own_form(request):
        return show_error(request, NotFound("This form is too old.", solution="Open it again."))
    files = request.FILES.getlist("files")
    try:
        made = uploads.take(request.user, _paths(files))
    except SaeError as error:
        return show_error(request, error)
    finally:
        for file in files:
            file.close()
    return go(request, "saes:upload", made.id)


def _paths(files: Any) -> dict[str, Path]:
    """Raises BadBody for none, and for two of the same name."""
    found = {
        file.name: Path(file.temporary_file_path())
        for file in files
        if isinstance(file, TemporaryUploadedFile) and file.name
    }
    if not found:
        raise BadBody("No file came.", solution="Choose one or more files first.")
    if len(found) != len(files):
        raise BadBody("Two files have the same name.", solution="Put folders into one zip archive.")
    return found


# --- what is in it -------------------------------------------------------------------------------


@require_GET
def upload(request: Request, upload_id: str) -> HttpResponse:
    try:
        found = roles.upload_for(request.user, upload_id)
        uploads.look_again(found)
    except SaeError as error:
        return show_error(request, error)
    context: dict[str, Any] = {"upload": found, "may_choose": may_edit(request.user)}
    try:
        context |= _offered(imports.look(request.user, _place(found)))
    except SaeError as error:
        context |= {"problem": error}
    return show(request, "saes/upload.html", **context)


def _place(upload: Upload) -> Place:
    return Place(folders.upload_root(upload))


def _offered(looked: Looked) -> dict[str, Any]:
    missing = [it.row for it in looked.offers if it.can_begin]
    return {
        "looked": looked, "offers": looked.offers, "missing": missing,
        "need": room.need_of([row.size for row in missing]), "margin": MARGIN,
        "keeps_source": settings.KEEP_SOURCE,
    }  # fmt: skip


@require_POST
@editors
def bring_in(request: Request, upload_id: str) -> HttpResponse:
    """The SAEs that are ticked, or all that are not here yet."""
    form = ChosenForm(request.POST)
    try:
        found = roles.upload_for(request.user, upload_id)
        if not form.is_valid():
            raise BadBody("A name has at most 200 letters.")
        brought = _bring_in(request, found, form.cleaned_data)
    except SaeError as error:
        return show_error(request, error)
    if brought.batch is None:
        messages.warning(request, _nothing_to_do(brought))
        return HttpResponseRedirect(reverse("saes:upload", args=[upload_id]))
    if len(brought.jobs) == 1:
        return go(request, "saes:detail", brought.jobs[0].sae_id)
    count = len(brought.jobs)
    messages.success(request, f"{count:,} SAEs are on their way.")
    return HttpResponseRedirect(f"{reverse('saes:jobs')}?batch={brought.batch.id}")


def _bring_in(request: Request, upload: Upload, asked: dict[str, Any]) -> Brought:
    place, wheres = _place(upload), request.POST.getlist("where")
    if asked["every"]:
        offers = imports.look(request.user, place).offers
        wheres = [it.row.where for it in offers if it.can_begin]
    wish = Wish(name=asked["name"], model_name=asked["model_name"])
    return imports.import_chosen(request.user, place, wheres, wish)


def _nothing_to_do(brought: Brought) -> str:
    if brought.here:
        return "All of these are in the library already, or on their way."
    return "Nothing was chosen. Tick the SAEs that you want first."


@require_POST
@editors
def discard(request: Request, upload_id: str) -> HttpResponse:
    try:
        found = roles.upload_for(request.user, upload_id)
        uploaded.discard(request.user, found)
    except SaeError as error:
        return show_error(request, error)
    return go(request, "saes:uploads", say=f"Discarded the upload {found}.")
