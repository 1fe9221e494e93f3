"""The admin of SAEs and, with each, its files."""

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from saes import roles, services, steering
from saes.admin import exporting
from saes.admin.deleting import Deleting
from saes.admin.filters import CommonValues
from saes.admin.rows import badge, bar, link, pretty, who
from saes.errors import Conflict, NotReady
from saes.forms import EditForm
from saes.models import Job, Sae, SaeFile
from saes.templatetags.parts import format_label, hub_page, shown
from saes.templatetags.values import filesize, number


class SaeForm(EditForm):
    """What people write about an SAE, as on its own page; all else belongs to jobs."""

    def __init__(
        self, data: Any = None, files: Any = None, *, instance: Sae | None = None, **more: Any
    ) -> None:
        more["initial"] = {"tags": ", ".join(instance.tags)} if instance else {}
        super().__init__(data, files, instance=instance, **more)


class SaeFiles(admin.TabularInline):  # type: ignore[type-arg]
    model = SaeFile
    fields = readonly_fields = ("path", "kind", "bytes", "sha256", "verified_against")
    extra = max_num = 0
    can_delete = False
    verbose_name_plural = "Files"

    @admin.display(description="size")
    def bytes(self, file: SaeFile) -> str:
        return filesize(file.size)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Sae)
class SaeAdmin(Deleting):
    form = SaeForm
    inlines = (SaeFiles,)
    list_display = (
        "name", "status_badge", "progress", "source", "model_name", "layer", "hook_name", "width",
        "bytes", "created_at",
    )  # fmt: skip
    list_filter = (
        "status", "source", ("format", CommonValues), ("architecture", CommonValues),
        ("model_name", CommonValues),
    )  # fmt: skip
    list_defer = (
        "facts", "given_facts", "tensors", "certificate", "missing_facts", "description", "notes",
        "error_message", "error_solution",
    )  # fmt: skip
    search_fields = ("name", "hf_repo_id", "hf_filepath", "model_name", "id")
    date_hierarchy = "created_at"
    actions = (
        "retry", "cancel", "verify", "reread", "convert", "export_json", "export_csv",
        "delete_selected",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("name", "description", "notes", "tags")}),
        ("State", {"fields": (
            "status_badge", "progress", "error_code", "error_message", "error_solution",
            "missing", "bytes", "local_path",
        )}),
        ("Where it comes from", {"fields": (
            "source", "repository", "hf_filepath", "hf_revision", "hf_commit", "created_by",
            "created_at", "updated_at", "downloaded_at",
        )}),
        ("What it is", {"fields": (
            "form_on_disk", "architecture", "model_name", "model_id", "layer", "hook_name",
            "hook_type", "d_in", "width", "facts_told", "facts_given", "shapes", "proof",
        )}),
    )  # fmt: skip

    def light(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        active = Job.objects.active().only("sae_id", "state", "kind", "progress")
        return super().light(rows).prefetch_related(Prefetch("jobs", active, to_attr="at_work"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Everything but what people write: the form then has no field for it, whatever is sent."""
        named = [str(name) for _, part in self.fieldsets for name in part["fields"]]
        return [name for name in named if name not in services.EDITABLE]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return who(request).has_perm(roles.EDIT)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return roles.may_edit(who(request)) and super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Sae, form: Any, change: bool) -> None:
        """Only what was changed: a job may be writing the other columns."""
        services.edit(obj, **{name: form.cleaned_data[name] for name in form.changed_data})

    def view_on_site(self, sae: Sae) -> str:
        return reverse("saes:detail", args=[sae.id])

    # --- how it is shown --------------------------------------------------------------------------

    @admin.display(description="status", ordering="status")
    def status_badge(self, sae: Sae) -> SafeString:
        return badge(shown(sae))

    @admin.display(description="progress")
    def progress(self, sae: Sae) -> SafeString | str:
        at_work = getattr(sae, "at_work", None)
        job = sae.active_job if at_work is None else next(iter(at_work), None)
        return bar(job.progress) if job else "–"

    @admin.display(description="width", ordering="d_sae")
    def width(self, sae: Sae) -> str:
        return number(sae.d_sae)

    @admin.display(description="size", ordering="file_size_bytes")
    def bytes(self, sae: Sae) -> str:
        return filesize(sae.file_size_bytes) if sae.file_size_bytes else "–"

    @admin.display(description="format", empty_value="–")
    def form_on_disk(self, sae: Sae) -> str:
        return format_label(sae.format) if sae.format else ""

    @admin.display(description="repository")
    def repository(self, sae: Sae) -> SafeString | str:
        if not sae.hf_repo_id:
            return "–"
        page = hub_page(sae.hf_repo_id, sae.hf_repo_type, sae.hf_commit)
        return link(page, sae.hf_repo_id)

    @admin.display(description="missing facts")
    def missing(self, sae: Sae) -> SafeString | str:
        return pretty(sae.missing_facts)

    @admin.display(description="facts")
    def facts_told(self, sae: Sae) -> SafeString | str:
        return pretty(sae.facts)

    @admin.display(description="facts stated by users")
    def facts_given(self, sae: Sae) -> SafeString | str:
        return pretty(sae.given_facts)

    @admin.display(description="tensors")
    def shapes(self, sae: Sae) -> SafeString | str:
        return pretty(sae.tensors)

    @admin.display(description="certificate")
    def proof(self, sae: Sae) -> SafeString | str:
        return pretty(sae.certificate)

    # --- what can be done -------------------------------------------------------------------------

    @admin.action(description="Retry", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Sae]) -> None:
        user = who(request)
        self.carry_out(request, chosen, "retried", lambda sae: steering.retry(user, sae))

    @admin.action(description="Cancel the job", permissions=["change"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Sae]) -> None:
        user = who(request)
        self.carry_out(request, chosen, "cancelled", lambda sae: _cancel(user, sae))

    @admin.action(description="Verify the files again", permissions=["change"])
    def verify(self, request: HttpRequest, chosen: QuerySet[Sae]) -> None:
        user = who(request)
        verb = "queued for verifying"
        self.carry_out(request, chosen, verb, lambda sae: steering.verify(user, sae))

    @admin.action(description="Read the metadata again", permissions=["change"])
    def reread(self, request: HttpRequest, chosen: QuerySet[Sae]) -> None:
        user = who(request)
        self.carry_out(request, chosen, "read again", lambda sae: steering.reread(user, sae))

    @admin.action(description="Convert again", permissions=["change"])
    def convert(self, request: HttpRequest, chosen: QuerySet[Sae]) -> None:
        user = who(request)
        verb = "queued for conversion"
        self.carry_out(request, chosen, verb, lambda sae: _convert(user, sae))

    @admin.action(description="Export as JSON", permissions=["view"])
    def export_json(self, request: HttpRequest, chosen: QuerySet[Sae]) -> StreamingHttpResponse:
        return exporting.as_json(_ids(chosen), self._noted(request, "Exported as JSON."))

    @admin.action(description="Export as CSV", permissions=["view"])
    def export_csv(self, request: HttpRequest, chosen: QuerySet[Sae]) -> StreamingHttpResponse:
        return exporting.as_csv(_ids(chosen), self._noted(request, "Exported as CSV."))

    def _noted(self, request: HttpRequest, message: str) -> exporting.Sent:
        async def sent(saes: list[Sae]) -> None:
            await sync_to_async(self.note)(request, saes, message)

        return sent


def _ids(chosen: QuerySet[Sae]) -> list[str]:
    return list(chosen.prefetch_related(None).values_list("id", flat=True))


def _cancel(user: User, sae: Sae) -> None:
    job = sae.active_job
    if job is None or not steering.cancel(user, job):
        raise Conflict("No job is at work on it.")


def _convert(user: User, sae: Sae) -> None:
    if not sae.downloaded_at:
        raise NotReady("Its files are not complete yet.")
    steering.convert_again(user, sae)
