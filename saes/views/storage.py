"""What the data directory holds: free space, what the library takes, and kept files."""

from django.db.models import Sum
from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_POST

from saes import services
from saes.errors import SaeError
from saes.models import Sae
from saes.views.common import Request, editors, go, show, show_error


@require_GET
def overview(request: Request) -> HttpResponse:
    shelf = services.library()
    largest = Sae.objects.filter(file_size_bytes__gt=0).order_by("-file_size_bytes")[:20]
    used = Sae.objects.aggregate(total=Sum("file_size_bytes"))["total"] or 0
    return show(
        request, "saes/storage.html", free=shelf.free(), used=used, largest=largest,
        kept=shelf.kept(), root=shelf.root,
    )  # fmt: skip


@require_POST
@editors
def remove_kept(request: Request, name: str) -> HttpResponse:
    try:
        services.library().remove_kept(name)
    except SaeError as error:
        return show_error(request, error)
    return go(request, "saes:storage", say=f"Removed the kept files of {name}.")
