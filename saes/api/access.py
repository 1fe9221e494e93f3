"""What a route asks of whoever asks it: the scope of a token, the role of its owner."""

from typing import Any, cast

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.security import HttpBearer

from saes import roles
from saes.api.middleware import ApiRequest
from saes.errors import Forbidden
from saes.models import ApiToken


class Reader(HttpBearer):
    """Everyone who is known may read. The middleware has found out who it is."""

    csrf = True  # the page of the documentation then sends the session's CSRF token along

    def __call__(self, request: HttpRequest) -> Any:
        self.refuse(cast(ApiRequest, request))
        return request.user

    def refuse(self, request: ApiRequest) -> None:
        """Raises Forbidden where this is not for them."""

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        raise AssertionError("the middleware checks tokens")


class Editor(Reader):
    """Changes the library: a token that may write, of somebody who may."""

    def refuse(self, request: ApiRequest) -> None:
        if request.api_token and request.api_token.scope != ApiToken.Scope.WRITE:
            raise Forbidden("This API token may only read.")
        roles.require_edit(who(request))


READ, EDIT = [Reader()], [Editor()]


def who(request: HttpRequest) -> User:
    return cast(User, request.user)
