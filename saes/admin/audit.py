"""The admin's own log: who did what to which row, also to rows that are gone."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest
from django.utils.safestring import SafeString

from saes.admin.rows import Rows, link


@admin.register(LogEntry)
class LogEntryAdmin(Rows):
    list_display = ("action_time", "user", "action_flag", "content_type", "row", "said")
    list_display_links = None
    list_filter = ("action_flag",)
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr", "object_id", "user__username")
    date_hierarchy = "action_time"
    actions = None

    @admin.display(description="row", ordering="object_repr")
    def row(self, entry: LogEntry) -> SafeString | str:
        url = None if entry.is_deletion() else entry.get_admin_url()
        return link(url, entry.object_repr) if url else entry.object_repr

    @admin.display(description="what happened")
    def said(self, entry: LogEntry) -> str:
        return entry.get_change_message()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
