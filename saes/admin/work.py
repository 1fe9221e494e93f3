"""The admin of jobs. Everyone sees their own; those who may control any job see all of them."""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from saes import activity, roles, steering
from saes.admin.rows import Rows, badge, bar, block, link, who
from saes.models import Batch, Job
from saes.templatetags.activity import waits
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
    actions = ("retry", "cancel", "pause", "resume", "front")
    SHOWN: ClassVar[Fieldsets] = [
        (None, {"fields": (
            "kind", "sae_link", "target", "state_badge", "waits", "batch_link", "created_by",
        )}),
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

    @admin.display(description="batch", ordering="batch")
    def batch_link(self, job: Job) -> SafeString | str:
        if job.batch is None:
            return "–"
        return link(reverse("admin:saes_batch_change", args=[quote(job.batch.pk)]), job.batch)

    @admin.display(description="waits for")
    def waits(self, job: Job) -> str:
        return waits(job) if job.state == Job.State.QUEUED else "–"

    @admin.display(description="bytes")
    def bytes_shown(self, job: Job) -> str:
        speed = f", {filesize(job.bytes_per_second)} a second" if job.bytes_per_second else ""
        return f"{filesize(job.bytes_done)} of {filesize(job.bytes_total)}{speed}"

    @admin.display(description="traceback")
    def traceback_shown(self, job: Job) -> SafeString | str:
        return block(job.traceback)

    @admin.action(description="Retry", permissions=["steer"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        self._steer(request, "retry", "retried", chosen)

    @admin.action(description="Cancel", permissions=["steer"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        self._steer(request, "cancel", "cancelled", chosen)

    @admin.action(description="Pause", permissions=["steer"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        self._steer(request, "pause", "paused", chosen)

    @admin.action(description="Resume", permissions=["steer"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        self._steer(request, "resume", "resumed", chosen)

    @admin.action(description="Move to the front", permissions=["steer"])
    def front(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        self._steer(request, "front", "moved to the front", chosen)

    def _steer(self, request: HttpRequest, verb: str, done: str, chosen: QuerySet[Job]) -> None:
        """All of them at once; those that cannot be changed so are left, and told."""
        rows = Job.objects.filter(id__in=list(chosen.values_list("id", flat=True)))
        changed = steering.steered(who(request), verb, rows)
        LogEntry.objects.log_actions(
            who(request).pk, rows.filter(id__in=changed), CHANGE, f"{done.capitalize()}."
        )
        others = rows.exclude(id__in=changed)
        left = [f"{job} is {job.get_state_display().lower()}." for job in others]
        self.tell(request, f"{len(changed)} {done}", left)


@admin.register(Batch)
class BatchAdmin(Rows):
    """What was asked for at once. Its jobs are steered in their own list, or on Activity."""

    list_display = ("id", "name", "hf_repo_id", "jobs_link", "created_by", "created_at")
    list_select_related = ("created_by",)
    search_fields = ("id", "name", "hf_repo_id")
    date_hierarchy = "created_at"
    fields = ("name", "hf_repo_id", "hf_commit", "jobs_link", "states", "created_by", "created_at")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        mine = roles.visible_jobs(who(request)).filter(batch=OuterRef("pk"))
        return Batch.objects.filter(Exists(mine)).select_related("created_by")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return who(request).has_perm("saes.view_job")  # whoever sees jobs sees what they belong to

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # its jobs are the history of their SAEs

    @admin.display(description="jobs")
    def jobs_link(self, batch: Batch) -> SafeString:
        jobs = reverse("admin:saes_job_changelist")
        return link(f"{jobs}?batch__id__exact={batch.pk}", "its jobs")

    @admin.display(description="how far they are")
    def states(self, batch: Batch) -> str:
        whole = activity.summary(batch, Job.objects.all())
        told = [f"{count:,} {state}" for state, count in whole.states.items() if count]
        return ", ".join(told)
