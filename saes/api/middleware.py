"""Who asks, for every address below /api/, and one form for every error there."""

import json
from collections.abc import Callable
from http import HTTPStatus

from django.contrib.auth.views import redirect_to_login
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from ninja.utils import check_csrf

from saes import api_tokens
from saes.api import limits
from saes.errors import (
    BadApiToken,
    BadRequest,
    Busy,
    Crashed,
    CsrfFailed,
    Forbidden,
    NotAllowed,
    NotFound,
    NotSignedIn,
    SaeError,
)
from saes.models import ApiToken
from saes.waiting import tell_when

PREFIX = "/api/"
DOCS = "/api/v1/docs"
# What Django itself answers, without a word for programs.
PLAIN: dict[int, SaeError] = {
    400: BadRequest("The request cannot be understood."),
    403: Forbidden("This is not yours to do."),
    404: NotFound("There is nothing at this address."),
    405: NotAllowed("This address does not take this method."),
    413: BadRequest("The request is too large."),
    500: Crashed("Something unexpected went wrong; the server's log says what."),
    503: Busy("The database is busy."),
}
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
# What another site's page can send without being asked first whether it may.
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")

Next = Callable[[HttpRequest], HttpResponseBase]


class ApiRequest(HttpRequest):
    """A request below /api/ of somebody who is known."""

    api_token: ApiToken | None


class ErrorsInJson:
    """Stands outermost: whatever fails inside, a foreign Host included, is answered in one form."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self.get_response(request)
        return in_json(answer) if request.path_info.startswith(PREFIX) else answer


class ApiMiddleware:
    """Stands behind the session: a token outranks it, and a session needs its CSRF token."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(PREFIX):
            return self.get_response(request)
        try:
            identify(request)
            limits.count(request.user.pk)
        except NotSignedIn as error:
            if request.path_info == DOCS:
                return redirect_to_login(request.get_full_path())
            return problem(error)
        except SaeError as error:
            return problem(error)
        except OperationalError:
            return problem(PLAIN[503])
        if not request.path_info.isprintable():  # PostgreSQL refuses to look for a NUL
            return problem(PLAIN[404])
        if has_body(request) and request.content_type != "application/json":
            return problem(not_json(), HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        return self.get_response(request)


def identify(request: HttpRequest) -> None:
    """Leaves the user in `request.user`. Raises NotSignedIn, BadApiToken, CsrfFailed."""
    header = request.headers.get("Authorization")
    if header is not None:
        row = api_tokens.from_header(header)
        request.user, request.api_token = row.owner, row  # type: ignore[attr-defined]
        return
    request.api_token = None  # type: ignore[attr-defined]
    if not request.user.is_authenticated:
        raise NotSignedIn("This needs somebody who is signed in.")
    # The first: looking for the token, Django would read such a body, however broken it is.
    if request.method not in SAFE and request.content_type in FORMS:
        raise CsrfFailed(
            "A session can send no form to this address.",
            solution="Send application/json with X-CSRFToken, or use an API token.",
        )
    if check_csrf(request):
        raise CsrfFailed("The CSRF token is missing or wrong.")


def has_body(request: HttpRequest) -> bool:
    length = request.headers.get("Content-Length", "")
    return length not in ("", "0") or "Transfer-Encoding" in request.headers


def not_json() -> SaeError:
    return BadRequest(
        "The body is not said to be JSON.", solution="Send it with Content-Type: application/json."
    )


def problem(error: SaeError, status: int | None = None) -> JsonResponse:
    """An error, in the one form that all have."""
    answer = JsonResponse(error.to_json(), status=status or error.status)
    if isinstance(error, NotSignedIn | BadApiToken):  # bad_token is the Hub's, not ours
        answer["WWW-Authenticate"] = "Bearer"
    tell_when(answer, error)
    return answer


def in_json(answer: HttpResponseBase) -> HttpResponseBase:
    """Errors that Django gave in HTML or as plain text, in our form; their headers stay."""
    kind = answer.get("Content-Type", "")
    if answer.status_code < 400 or kind.startswith("application/json"):
        return answer
    if not isinstance(answer, HttpResponse):
        return answer
    error = PLAIN.get(answer.status_code) or PLAIN[500 if answer.status_code >= 500 else 400]
    answer.content = json.dumps(error.to_json()).encode()
    answer["Content-Type"] = "application/json"
    answer["Content-Length"] = str(len(answer.content))
    return answer
