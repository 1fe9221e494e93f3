"""Idempotency-Key: a request that is sent twice is done once, and answered twice."""

import functools
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from ninja.responses import Status

from saes.api.access import who
from saes.errors import BadRequest, Conflict, KeyReused
from saes.models import KeptAnswer

HEADER = "Idempotency-Key"
KEPT_FOR = timedelta(days=1)
LONGEST = 200
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
        row, is_new = _row(request, key)
        if not is_new:
            return _again(row)
        try:
            result = route(request, *args, **kwargs)
            _keep(row, result)
        finally:
            KeptAnswer.objects.filter(id=row.id, status=None).delete()
        return result

    return answered


def _row(request: HttpRequest, key: str) -> tuple[KeptAnswer, bool]:
    if not (0 < len(key) <= LONGEST and key.isascii() and key.isprintable() and " " not in key):
        raise BadRequest(f"{HEADER} has to be 1 to {LONGEST} plain characters.")
    KeptAnswer.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()
    asked, user = _asked(request), who(request)
    try:
        with transaction.atomic():
            return KeptAnswer.objects.create(user=user, key=key, asked=asked), True
    except IntegrityError:
        row = KeptAnswer.objects.get(user=user, key=key)
    if not hmac.compare_digest(row.asked, asked):
        raise KeyReused(f"This {HEADER} belongs to another request.")
    return row, False


def _asked(request: HttpRequest) -> str:
    """A keyed hash: the body may hold a token, and nobody shall guess it from the row."""
    said = f"{request.method} {request.get_full_path()}\n".encode() + request.body
    return hmac.new(settings.SECRET_KEY.encode(), said, hashlib.sha256).hexdigest()


def _again(row: KeptAnswer) -> Any:
    if row.status is None:
        raise Conflict(
            "The first request with this key is still at work.",
            solution="Ask again in a moment.",
        )
    return Status(row.status, row.body)


def _keep(row: KeptAnswer, result: Any) -> None:
    status, body = (
        (result.status_code, result.value) if isinstance(result, Status) else (200, result)
    )
    row.status, row.body = status, json.loads(json.dumps(body, cls=DjangoJSONEncoder))
    row.save(update_fields=["status", "body"])
