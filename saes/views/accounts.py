"""Signing in by password or by a link from the terminal, and signing out."""

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from saes import accounts
from saes.views.common import show

BACKEND = "django.contrib.auth.backends.ModelBackend"


@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def sign_in_link(request: HttpRequest, signed: str) -> HttpResponse:
    """A GET only shows a button: programs that look ahead at links must not use one up."""
    if request.method == "GET":
        good = accounts.link_is_good(signed)
        return show(request, "sign_in_link.html", status=200 if good else 410, good=good)
    user = accounts.use_link(signed)
    if user is None:
        return show(request, "sign_in_link.html", status=410, good=False)
    login(request, user, backend=BACKEND)
    return HttpResponseRedirect(reverse("saes:list"))
