"""The queue's dashboard: for staff that may control any job, since it shows those of everybody."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, reverse
from django_rq.admin import QueueAdmin
from django_rq.models import Dashboard
from redis.exceptions import RedisError
from rq import Worker
from rq.exceptions import NoSuchJobError

from saes import roles
from saes.admin.rows import who

GONE = (NoSuchJobError, IndexError, AssertionError)  # a job, a queue by its number, a worker
WORKER = Worker.redis_worker_namespace_prefix
# Its pages have scripts and styles within them.
INLINE = {name: [SELF, UNSAFE_INLINE] for name in ("script-src", "style-src")}

admin.site.unregister(Dashboard)


@admin.register(Dashboard)
class OurQueueAdmin(QueueAdmin):
    def get_urls(self) -> list[URLPattern]:
        patterns: list[URLPattern] = super().get_urls()  # type: ignore[no-untyped-call]
        for pattern in patterns:
            pattern.callback = csp_update(INLINE)(_guarded(pattern.callback))
        return patterns

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _may_enter(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_enter(request)

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> None:
        """The model has no table."""


def _may_enter(request: HttpRequest) -> bool:
    user = who(request)
    return user.is_staff and user.has_perm(roles.CONTROL)


def _guarded(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not _may_enter(request):
            raise PermissionDenied
        if "key" in kwargs:  # its own pages leave out what all keys begin with
            kwargs["key"] = WORKER + kwargs["key"].removeprefix(WORKER)
        try:
            return view(request, *args, **kwargs)
        except GONE as error:
            raise Http404 from error
        except RedisError:
            messages.error(request, "The queue cannot be reached. Jobs wait until it is back.")
            return HttpResponseRedirect(reverse("admin:index"))

    return guarded
