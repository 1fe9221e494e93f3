"""The API itself: its routers, its documentation, and its errors in one form."""

import json
from typing import Any, NoReturn

from csp.constants import SELF
from csp.decorators import csp_update
from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.parser import Parser

from saes.api import (
    features,
    files,
    hub,
    hub_tokens,
    imports,
    invalid,
    jobs,
    library,
    many,
    storage,
    trainings,
    uploads,
)  # fmt: skip
from saes.api.access import READ
from saes.api.middleware import PLAIN, problem
from saes.errors import BadRequest, NotFound, SaeError


class StrictParser(Parser):
    """JSON as its standard has it."""

    def parse_body(self, request: HttpRequest) -> Any:
        return json.loads(request.body, parse_constant=_no_number)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


api = NinjaAPI(
    title="miStudio",
    version="1",
    description="Preview, download, convert, check and share Sparse Autoencoders.",
    auth=READ,
    parser=StrictParser(),
    openapi_url="/openapi.json",
    docs_url="/docs",
    # Its style sheet draws arrows and ticks as data: images; it needs nothing more.
    docs_decorator=csp_update({"img-src": [SELF, "data:"]}),
    urls_namespace="api",
)
for router in (
    hub.router, imports.router, trainings.router, uploads.router, library.router, features.router,
    files.router, many.router, jobs.router, storage.router, hub_tokens.router,
):  # fmt: skip
    api.add_router("", router)


@api.exception_handler(SaeError)
def _expected(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(error)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(invalid.explained(error.errors))


@api.exception_handler(HttpError)
def _unreadable(request: HttpRequest, error: Any) -> HttpResponse:
    """Of these the router raises one only: for a body that it cannot parse."""
    return problem(BadRequest("The body is not JSON."))


@api.exception_handler(RequestDataTooBig)
def _too_large(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(PLAIN[413], 413)


@api.exception_handler(UnreadablePostError)
def _broken_off(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(BadRequest("The body ends early."))


@api.exception_handler(OperationalError)
def _busy(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(PLAIN[503])


@api.exception_handler(ObjectDoesNotExist)
def _deleted(request: HttpRequest, error: Any) -> HttpResponse:
    """Between two looks at it."""
    return problem(NotFound("It was deleted meanwhile."))


@api.exception_handler(Http404)
def _nothing(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(PLAIN[404])
