"""Idempotency-Key: a request that is sent twice is done once, and answered twice."""

import functools
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from ninja.responses import Status

from saes.api.access import who
from saes.errors import BadRequest, Conflict, KeyReused
from saes.models import KeptAnswer

HEADER = "Idempotency-Key"
KEPT_FOR = timedelta(days=1)
LONGEST = 200
LARGEST = 64_000  # bytes of an answer: a batch of a thousand that were deleted has a third
MOST_KEPT = 1_000  # of each user, so 64 MB at most
AT_WORK = "The first request with this key is still at work."
SOON = "Ask again in a moment."
GIVEN_UP_AFTER = timedelta(minutes=5)  # no request takes so long
DOCUMENTED: dict[str, Any] = {
    "parameters": [
        {
            "in": "header",
            "name": HEADER,
            "required": False,
            "schema": {"type": "string", "maxLength": LONGEST, "pattern": "^[!-~]+$"},
            "description": "The same key and request get the same answer again, for a day.",
        }
    ]
}  # fmt: skip


def idempotent(route: Callable[..., Any]) -> Callable[..., Any]:
    """Answers again what the same key was answered. Failed requests are not kept: they may go."""

    @functools.wraps(route)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        key = request.headers.get(HEADER)
        if key is None:
            return route(request, *args, **kwargs)
        row, is_ours = _row(request, key)
        if not is_ours:
            return _again(row)
        try:
            result = route(request, *args, **kwargs)
            _keep(row, result)
        finally:
            _at_work(row).delete()
        return result

    return answered


def _row(request: HttpRequest, key: str) -> tuple[KeptAnswer, bool]:
    """The row of this key, and whether it is for this request to find the answer."""
    if not (0 < len(key) <= LONGEST and key.isascii() and key.isprintable() and " " not in key):
        raise BadRequest(f"{HEADER} has to be 1 to {LONGEST} plain characters.")
    asked, user = _asked(request), who(request)
    _drop_old(user)
    try:
        row, is_new = KeptAnswer.objects.get_or_create(
            user=user, key=key, defaults={"asked": asked}
        )
    except IntegrityError as error:  # the other one failed just now, and its row is gone
        raise Conflict(AT_WORK, solution=SOON) from error
    if not hmac.compare_digest(row.asked, asked):
        raise KeyReused(f"This {HEADER} belongs to another request.")
    return row, is_new or _taken_over(row)


def _drop_old(user: User) -> None:
    KeptAnswer.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()
    mine = KeptAnswer.objects.filter(user=user).order_by("-id").values_list("id", flat=True)
    if beyond := mine[MOST_KEPT - 1 : MOST_KEPT].first():
        KeptAnswer.objects.filter(user=user, id__lte=beyond).delete()


def _taken_over(row: KeptAnswer) -> bool:
    """Whoever had it is gone without a word: the server was killed. One caller may go on."""
    now = timezone.now()
    if row.status is not None or now - row.created_at < GIVEN_UP_AFTER:
        return False
    won = _at_work(row).update(created_at=now)
    row.created_at = now
    return bool(won)


def _at_work(row: KeptAnswer) -> QuerySet[KeptAnswer]:
    """The row, while it has no answer and nobody took it over."""
    return KeptAnswer.objects.filter(id=row.id, status=None, created_at=row.created_at)


def _asked(request: HttpRequest) -> str:
    """A keyed hash: the body may hold a token, and nobody shall guess it from the row."""
    said = f"{request.method} {request.get_full_path()}\n".encode() + request.body
    return hmac.new(settings.SECRET_KEY.encode(), said, hashlib.sha256).hexdigest()


def _again(row: KeptAnswer) -> Any:
    if row.status is None:
        raise Conflict(AT_WORK, solution=SOON)
    return Status(row.status, row.body)


def _keep(row: KeptAnswer, result: Any) -> None:
    """A large answer is not kept: previews are, and batches of which next to nothing was done.

    Both may be sent again and change nothing more.
    """
    status, body = (
        (result.status_code, result.value) if isinstance(result, Status) else (200, result)
    )
    text = json.dumps(body, cls=DjangoJSONEncoder)
    if len(text) <= LARGEST:
        _at_work(row).update(status=status, body=json.loads(text))
