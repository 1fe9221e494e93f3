"""Who is at the other end of a program's socket, and how many of these somebody has open."""

from collections import Counter
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.http import HttpRequest, parse_cookie
from django.utils.module_loading import import_string

from saes import api_tokens
from saes.errors import NotSignedIn

MOST_SOCKETS = 50


def identify(scope: dict[str, Any]) -> User:
    """Looks everything up anew, so it can be asked again. Raises BadApiToken, NotSignedIn.

    A token outranks the session, as in the API.
    """
    headers = dict(scope["headers"])
    if b"authorization" in headers:
        return api_tokens.from_header(headers[b"authorization"].decode("latin-1")).owner
    return _of_session(headers.get(b"cookie", b"").decode("latin-1"))


def _of_session(cookies: str) -> User:
    request = HttpRequest()
    store = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    request.session = store(parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME))
    user = get_user(request)
    if not isinstance(user, User):
        raise NotSignedIn("The session has ended.", solution="Sign in and connect again.")
    return user


class Seats:
    """How many sockets each user has open on this process."""

    def __init__(self) -> None:
        self._taken: Counter[int] = Counter()

    def take(self, user_id: int) -> bool:
        """False where there is none left."""
        if self._taken[user_id] >= MOST_SOCKETS:
            return False
        self._taken[user_id] += 1
        return True

    def leave(self, user_id: int) -> None:
        self._taken[user_id] -= 1
        if not self._taken[user_id]:
            del self._taken[user_id]

    def count(self, user_id: int) -> int:
        return self._taken[user_id]


SEATS = Seats()
