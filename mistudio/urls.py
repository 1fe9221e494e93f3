"""All addresses. Signing in and /healthz are the only pages for anonymous visitors."""

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView

from saes.api.main import api


@login_not_required
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


# Open to all: behind the door itself, `next` would lead back to it after signing in.
_to_sign_in = RedirectView.as_view(pattern_name="sign-in", query_string=True)

urlpatterns = [
    path("healthz", healthz),
    path("api/v1/", api.urls),
    path("admin/login/", login_not_required(_to_sign_in)),
    path("admin/", admin.site.urls),
    path("", include("saes.urls")),
]
