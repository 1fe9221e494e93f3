"""An SAE in other formats: its panel alone, and asking for one."""

from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import trigger_client_event

from saes import exporting
from saes.models import Job, Sae
from saes.views.common import Request, editors, go, show
from saes.views.library import with_sae

PANEL = "saes/formats.html#panel"


@require_GET
@with_sae
def formats(request: Request, sae: Sae) -> HttpResponse:
    """The panel, asked for every second while a job makes files. After that, the rest of the page
    has changed, too."""
    if not request.htmx:
        return go(request, "saes:detail", sae.id)
    answer = show(request, PANEL, sae=sae)
    if not sae.jobs.active().filter(kind=Job.Kind.EXPORT).exists():
        trigger_client_event(answer, "mistudio:refresh", after="swap")
    return answer


@require_POST
@editors
@with_sae
def prepare(request: Request, sae: Sae) -> HttpResponse:
    exporting.prepare(request.user, sae, request.POST.get("format", "")[:40])
    if not request.htmx:
        return go(request, "saes:detail", sae.id)
    return show(request, PANEL, sae=sae)
