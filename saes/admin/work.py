"""The admin of jobs. Everyone sees their own; those who may control any job see all of them."""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from saes import roles, steering
from saes.admin.rows import Rows, badge, bar, block, link, who
from saes.errors import Conflict
from saes.models import Job
from saes.templatetags.parts import shown_state
from saes.templatetags.values import filesize

Fieldsets = list[tuple[str | None, dict[str, Any]]]


@admin.register(Job)
class JobAdmin(Rows):
    list_display = (
        "id", "kind", "sae_link", "state_badge", "stage", "bar", "attempt", "created_by",
        "created_at", "ended_at",
    )  # fmt: skip
    list_filter = ("state", "kind")
    list_select_related = ("sae", "created_by")
    list_defer = (
        "traceback", "sae__facts", "sae__given_facts", "sae__tensors", "sae__certificate",
        "sae__missing_facts", "sae__description", "sae__notes", "sae__error_message",
    )  # fmt: skip
    search_fields = ("id", "sae__name", "sae__hf_repo_id", "error_code")
    date_hierarchy = "created_at"
    hidden = frozenset({"token", "lease", "traceback"})
    exclude = ("token", "lease")
    actions = ("retry", "cancel", "pause", "resume")
    SHOWN: ClassVar[Fieldsets] = [
        (None, {"fields": ("kind", "sae_link", "target", "state_badge", "created_by")}),
        ("How far it is", {"fields": (
            "stage", "message", "bar", "file_name", "file_index", "file_count", "bytes_shown",
            "bytes_reserved",
        )}),
        ("How it ended", {"fields": ("error_code", "error_message", "error_solution")}),
        ("Worker", {"fields": ("worker", "attempt", "deaths", "progress_at_death", "version")}),
        ("When", {"fields": (
            "created_at", "started_at", "heartbeat_at", "updated_at", "ended_at",
        )}),
    ]  # fmt: skip
    TRACEBACK: ClassVar[Fieldsets] = [("Traceback", {"fields": ("traceback_shown",)})]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return roles.visible_jobs(who(request)).select_related("sae", "created_by")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        crashed = obj is not None and obj.traceback and who(request).has_perm(roles.CONTROL)
        return self.SHOWN + self.TRACEBACK if crashed else self.SHOWN

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        shown = self.get_fieldsets(request, obj)
        return [name for _, part in shown for name in part["fields"]]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # it is the history of its SAE, and goes with it

    def has_steer_permission(self, request: HttpRequest) -> bool:
        user = who(request)
        return user.has_perm("saes.change_job") and roles.may_edit(user)

    @admin.display(description="state", ordering="state")
    def state_badge(self, job: Job) -> SafeString:
        return badge(shown_state(job))

    @admin.display(description="progress", ordering="progress")
    def bar(self, job: Job) -> SafeString:
        return bar(job.progress)

    @admin.display(description="SAE", ordering="sae")
    def sae_link(self, job: Job) -> SafeString:
        return link(reverse("admin:saes_sae_change", args=[quote(job.sae_id)]), job.sae)

    @admin.display(description="bytes")
    def bytes_shown(self, job: Job) -> str:
        speed = f", {filesize(job.bytes_per_second)} a second" if job.bytes_per_second else ""
        return f"{filesize(job.bytes_done)} of {filesize(job.bytes_total)}{speed}"

    @admin.display(description="traceback")
    def traceback_shown(self, job: Job) -> SafeString | str:
        return block(job.traceback)

    @admin.action(description="Retry", permissions=["steer"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        user = who(request)
        self.carry_out(request, chosen, "retried", lambda job: steering.retry_job(user, job))

    @admin.action(description="Cancel", permissions=["steer"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        user = who(request)
        self.carry_out(request, chosen, "cancelled", lambda job: _cancel(user, job))

    @admin.action(description="Pause", permissions=["steer"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        user = who(request)
        self.carry_out(request, chosen, "paused", lambda job: steering.pause(user, job))

    @admin.action(description="Resume", permissions=["steer"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        user = who(request)
        self.carry_out(request, chosen, "resumed", lambda job: steering.resume(user, job))


def _cancel(user: User, job: Job) -> None:
    if not steering.cancel(user, job):
        raise Conflict("It has ended already.")
