"""The queue's dashboard: staff may look; what is in it belongs to others, as their jobs do."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, reverse
from django_rq.admin import QueueAdmin
from django_rq.models import Dashboard
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError

from saes import roles
from saes.admin.rows import who

LOOKING = ("GET", "HEAD", "OPTIONS")
GONE = (NoSuchJobError, IndexError)  # a job by its id, a queue by its number

admin.site.unregister(Dashboard)


@admin.register(Dashboard)
class OurQueueAdmin(QueueAdmin):
    def get_urls(self) -> list[URLPattern]:
        patterns: list[URLPattern] = super().get_urls()  # type: ignore[no-untyped-call]
        for pattern in patterns:
            pattern.callback = _guarded(pattern.callback)
        return patterns

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> None:
        """The model has no table."""


def _guarded(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method not in LOOKING and not who(request).has_perm(roles.CONTROL):
            raise PermissionDenied
        try:
            return view(request, *args, **kwargs)
        except GONE as error:
            raise Http404 from error
        except RedisError:
            messages.error(request, "The queue cannot be reached. Jobs wait until it is back.")
            return HttpResponseRedirect(reverse("admin:index"))

    return guarded
