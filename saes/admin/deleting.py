"""Deleting SAEs in the admin: a page that names bytes and jobs, then steering.delete_sae().

Nothing here runs in one transaction: a worker has to see at once that its job was cancelled.
"""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from saes import roles, services, steering
from saes.admin.rows import Rows, who
from saes.errors import SaeError
from saes.forms import DeleteForm
from saes.models import Job, Sae
from saes.templatetags.values import filesize

MOST = 500  # at once: each has its line and its field on the page that asks


@dataclass(frozen=True)
class Doomed:
    """One SAE on the page that asks."""

    sae: Sae
    size: int
    job: Job | None
    refused: bool  # somebody else's job is at work on it


class Deleting(Rows):
    @admin.action(description="Delete, with their files", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, chosen: QuerySet[Sae]) -> HttpResponse | None:
        count = chosen.count()
        if count > MOST:
            self.tell(request, "0 deleted", [f"choose at most {MOST} of these {count} at once."])
            return None
        form = DeleteForm(request.POST)
        if request.POST.get("post") and form.is_valid():
            self.remove(request, chosen, keep_files=form.cleaned_data["keep_files"])
            return None
        return self._ask(request, list(chosen), action="delete_selected")

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        sae = self.get_object(request, unquote(object_id))
        if not self.has_delete_permission(request, sae):
            raise PermissionDenied
        if sae is None:
            raise Http404
        form = DeleteForm(request.POST)
        if request.method == "POST" and form.is_valid():
            self.remove(request, [sae], keep_files=form.cleaned_data["keep_files"])
            return HttpResponseRedirect(reverse("admin:saes_sae_changelist"))
        return self._ask(request, [sae])

    def delete_model(self, request: HttpRequest, obj: Sae) -> None:
        self.remove(request, [obj], keep_files=False)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Sae]) -> None:
        self.remove(request, queryset, keep_files=False)

    def _ask(self, request: HttpRequest, saes: list[Sae], action: str = "") -> HttpResponse:
        doomed = _doomed(request, saes)
        context = {
            **self.admin_site.each_context(request),
            "title": "Delete SAEs" if action else "Delete this SAE",
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            "form": DeleteForm(),
            "doomed": doomed,
            "total": sum(it.size for it in doomed),
            "freed": services.bytes_freed(*saes),
            "action": action,
            "box": ACTION_CHECKBOX_NAME,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/saes/sae/delete.html", context)

    def remove(self, request: HttpRequest, saes: Any, *, keep_files: bool) -> None:
        """Each by itself: what is refused does not stop the others."""
        done, freed, refused = 0, 0, []
        for sae in saes:
            size = services.bytes_on_disk(sae) if keep_files else services.bytes_freed(sae)
            try:
                kept = steering.delete_sae(who(request), sae, keep_files=keep_files)
            except SaeError as error:
                refused.append(f"{sae}: {error}")
                continue
            done, freed = done + 1, freed + size
            what = f"its files are in {kept}" if kept else f"{filesize(size)} freed"
            self.note(request, [sae], f"Deleted; {what}.", DELETION)
        where = "kept in the folder kept/" if keep_files else "freed"
        self.tell(request, f"{done} deleted, {filesize(freed)} {where}", refused)

    def note(self, request: HttpRequest, saes: list[Sae], message: str, flag: int = CHANGE) -> None:
        """Django's own notes of deletions say nothing about files."""
        LogEntry.objects.log_actions(who(request).pk, saes, flag, message)


def _doomed(request: HttpRequest, saes: list[Sae]) -> list[Doomed]:
    at_work = {job.sae_id: job for job in Job.objects.active().filter(sae__in=saes)}
    user = who(request)
    return [
        Doomed(
            sae, services.bytes_on_disk(sae), job, bool(job and not roles.may_control(user, job))
        )
        for sae in saes
        for job in [at_work.get(sae.id)]
    ]
