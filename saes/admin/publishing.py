"""The admin of publications. Everyone sees their own: repositories of others may be private."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from saes import roles
from saes.admin.rows import Rows, badge, link, pretty, who
from saes.models import Publication
from saes.templatetags.publishing import standing, what


@admin.register(Publication)
class PublicationAdmin(Rows):
    """What was confirmed and what became of it. Its job is steered in the list of jobs."""

    list_display = (
        "repo_id", "what", "standing", "public", "commit", "created_by", "created_at",
        "verified_at",
    )  # fmt: skip
    list_filter = ("public", ("verified_at", admin.EmptyFieldListFilter))
    list_select_related = ("created_by",)
    search_fields = ("id", "repo_id", "commit", "saes__name")
    date_hierarchy = "created_at"
    hidden = frozenset({"saes", "jobs", "seen", "sent"})
    fields = readonly_fields = (
        "id", "repo_id", "standing", "jobs_link", "account", "creates", "public", "makes_public",
        "as_pull_request", "license", "message", "folders", "commit", "commit_url",
        "pull_request", "created_by", "created_at", "verified_at",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Publication]:
        return roles.visible_publications(who(request)).select_related("created_by")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return who(request).has_perm("saes.view_job")  # whoever sees jobs sees what they are for

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # it tells what was given away, and when

    @admin.display(description="SAEs")
    def what(self, publication: Publication) -> str:
        return what(publication)

    @admin.display(description="state")
    def standing(self, publication: Publication) -> SafeString:
        return badge(standing(publication))

    @admin.display(description="jobs")
    def jobs_link(self, publication: Publication) -> SafeString:
        jobs = reverse("admin:saes_job_changelist")
        return link(f"{jobs}?publication__id__exact={publication.pk}", "its jobs")

    @admin.display(description="SAEs by folder")
    def folders(self, publication: Publication) -> SafeString | str:
        return pretty({it.folder: it.name for it in publication.saes.all()})
