"""Who asks, for every address below /api/, and one form for every error there."""

from collections.abc import Callable
from http import HTTPStatus

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from ninja.utils import check_csrf

from saes import api_tokens
from saes.errors import (
    BadApiToken,
    BadRequest,
    Crashed,
    CsrfFailed,
    Forbidden,
    NotAllowed,
    NotFound,
    NotSignedIn,
    RateLimited,
    SaeError,
)
from saes.models import ApiToken

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
}


class ApiRequest(HttpRequest):
    """A request below /api/ of somebody who is known."""

    api_token: ApiToken | None


class ApiMiddleware:
    """Stands behind the session: a token outranks it, and a session needs its CSRF token."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path.startswith(PREFIX):
            return self.get_response(request)
        try:
            identify(request)
        except NotSignedIn as error:
            if request.path == DOCS:
                return redirect_to_login(request.path)
            return problem(error)
        except SaeError as error:
            return problem(error)
        return in_json(self.get_response(request))


def identify(request: HttpRequest) -> None:
    """Leaves the user in `request.user`. Raises NotSignedIn, BadApiToken, CsrfFailed."""
    header = request.headers.get("Authorization", "")
    if header:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer":
            raise BadApiToken("Authorization must be `Bearer` and an API token.")
        row = api_tokens.check(token.strip())
        request.user, request.api_token = row.owner, row  # type: ignore[attr-defined]
        return
    request.api_token = None  # type: ignore[attr-defined]
    if not request.user.is_authenticated:
        raise NotSignedIn("This needs somebody who is signed in.")
    if check_csrf(request):
        raise CsrfFailed("The CSRF token is missing or wrong.")


def problem(error: SaeError, status: int | None = None) -> JsonResponse:
    """An error, in the one form that all have."""
    answer = JsonResponse(error.to_json(), status=status or error.status)
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        answer["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RateLimited) and error.retry_after:
        answer["Retry-After"] = str(round(error.retry_after))
    return answer


def in_json(answer: HttpResponseBase) -> HttpResponseBase:
    """Errors that Django or the router gave in HTML or as plain text, in our form."""
    kind = answer.get("Content-Type", "")
    error = PLAIN.get(answer.status_code)
    if error is None or kind.startswith("application/json"):
        return answer
    plain = problem(error, answer.status_code)
    if "Allow" in answer:
        plain["Allow"] = answer["Allow"]
    return plain
