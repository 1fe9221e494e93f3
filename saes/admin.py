"""Django's admin for the rows. What jobs own is read-only here."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from saes.models import Job, Sae


@admin.register(Sae)
class SaeAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "source", "status", "model_name", "layer", "d_sae", "created_at")
    list_filter = ("status", "source", "format", "architecture")
    search_fields = ("name", "hf_repo_id", "hf_filepath", "model_name")
    date_hierarchy = "created_at"
    show_full_result_count = False
    fields = ("name", "description", "notes", "tags")

    def save_model(self, request: HttpRequest, obj: Sae, form: Any, change: bool) -> None:
        obj.save(update_fields=form.changed_data)  # a job may be writing the other columns

    def has_add_permission(self, request: object) -> bool:
        return False

    def has_delete_permission(self, request: object, obj: object = None) -> bool:
        return False  # the library's own page deletes: it knows the files


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("id", "kind", "sae", "state", "stage", "progress", "attempt", "created_at")
    list_filter = ("state", "kind")
    list_select_related = ("sae",)
    date_hierarchy = "created_at"
    show_full_result_count = False
    readonly_fields: ClassVar[list[str]] = [
        field.name for field in Job._meta.fields if field.name not in ("token", "lease")
    ]
    exclude = ("token", "lease")

    def has_add_permission(self, request: object) -> bool:
        return False

    def has_delete_permission(self, request: object, obj: object = None) -> bool:
        return False
