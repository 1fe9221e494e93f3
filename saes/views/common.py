"""What the views share: the typed request, errors as pages, and answers to htmx and to browsers."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from saes import roles
from saes.errors import Forbidden, SaeError
from saes.waiting import tell_when

P = ParamSpec("P")


class Request(HttpRequest):
    """A request of somebody who is signed in."""

    htmx: HtmxDetails
    user: User


def show(request: HttpRequest, template: str, *, status: int = 200, **context: Any) -> HttpResponse:
    context.setdefault("viewer", getattr(request, "user", None))  # the socket has no request
    answer = render(request, template, context, status=status)
    patch_vary_headers(answer, ["HX-Request"])  # one address gives pages and parts of them
    return answer


def show_error(request: HttpRequest, error: SaeError, **context: Any) -> HttpResponse:
    """The error's own page, or its card where htmx asked for a part."""
    part = "error.html#card" if getattr(request, "htmx", False) else "error.html"
    answer = show(request, part, status=error.status, error=error, **context)
    tell_when(answer, error)
    return answer


def editors(
    view: Callable[Concatenate[Request, P], HttpResponse],
) -> Callable[..., HttpResponse]:
    """For views that change the library: whoever may only look is refused before any work."""

    @wraps(view)
    def wrapped(request: Request, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        try:
            roles.require_edit(request.user)
        except Forbidden as error:
            return show_error(request, error)
        return view(request, *args, **kwargs)

    return wrapped


def go(request: Request, name: str, *args: object, say: str = "") -> HttpResponse:
    """Go on to another page, with or without JavaScript; `say` is shown there."""
    if say:
        messages.success(request, say)
    url = reverse(name, args=args)
    return HttpResponseClientRedirect(url) if request.htmx else HttpResponseRedirect(url)
