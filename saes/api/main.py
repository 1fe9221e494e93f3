"""The API itself: its routers, its documentation, and its errors in one form."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import Throttled, ValidationError
from ninja.throttling import UserRateThrottle

from saes.api import hub, jobs, library
from saes.api.access import READ
from saes.api.middleware import problem
from saes.errors import BadBody, BadRequest, RateLimited, SaeError

api = NinjaAPI(
    title="miStudio",
    version="1",
    description="Preview, download, convert, check and share Sparse Autoencoders.",
    auth=READ,
    throttle=UserRateThrottle(),
    openapi_url="/openapi.json",
    docs_url="/docs",
    urls_namespace="api",
)
for router in (hub.router, library.router, jobs.router):
    api.add_router("", router)


@api.exception_handler(SaeError)
def _expected(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(error)


@api.exception_handler(Throttled)
def _throttled(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(
        RateLimited(
            "Rate limit exceeded: too many requests to this server.",
            error.wait or 1,
            solution="Wait as long as Retry-After says.",
        )
    )


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: Any) -> HttpResponse:
    """The first thing that is wrong, by its name; its value is not repeated, it may be a token."""
    first = error.errors[0]
    place, name = first["loc"][0], ".".join(str(part) for part in first["loc"][1:])
    said = f"{name.rpartition('.')[2] or 'The body'}: {first['msg'][:200]}."
    kind = BadBody if place in ("body", "form") else BadRequest
    return problem(kind(said))
