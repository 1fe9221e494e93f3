"""What the admin of every kind of row shares: rows that jobs and users make, and only show here."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, cast

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from saes.admin.filters import periods
from saes.errors import SaeError
from saes.templatetags.parts import Shown

NAMED = 5  # so many refused rows are named in a message; it travels in a cookie


class LightList(ChangeList):
    """A list that reads no more than it shows."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        if any("\0" in value for values in request.GET.lists() for value in values[1]):
            raise IncorrectLookupParameters  # PostgreSQL stores no NUL, and does not compare one
        super().__init__(request, *args, **kwargs)

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        found = super().get_queryset(request, *args, **kwargs)
        rows = cast(Rows, self.model_admin)
        light = rows.light(found)
        light.datetimes = partial(periods, light)  # type: ignore[assignment]
        return light


class Rows(admin.ModelAdmin):  # type: ignore[type-arg]
    """Nothing is added or changed by hand; actions do what they do through steering.py."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each would count all rows
    list_per_page = 50
    list_defer: ClassVar[tuple[str, ...]] = ()
    hidden: ClassVar[frozenset[str]] = frozenset()  # columns that not even a filter may ask about

    class Media:
        css: ClassVar = {"all": ["admin-rows.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LightList

    def light(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """What the list needs of the rows, in a number of queries that does not depend on them."""
        return rows.defer(*self.list_defer)

    def lookup_allowed(
        self, lookup: str, value: str, request: HttpRequest | None = None
    ) -> bool:  # Django itself lets `?secret__startswith=a` tell a column letter by letter
        if lookup.partition("__")[0] in self.hidden:
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def carry_out(
        self, request: HttpRequest, rows: Iterable[Any], verb: str, act: Callable[[Any], object]
    ) -> None:
        """Do it to each row, note each in the history, and tell how it went."""
        done, refused = 0, []
        for row in rows:
            try:
                act(row)
            except SaeError as error:
                refused.append(f"{row}: {error}")
            else:
                done += 1
                self.log_change(request, row, f"{verb.capitalize()}.")
        self.tell(request, f"{done} {verb}", refused)

    def tell(self, request: HttpRequest, done: str, refused: list[str]) -> None:
        """2 retried, 1 refused: its name and why."""
        if not refused:
            return self.message_user(request, f"{done}.", messages.SUCCESS)
        more = len(refused) - NAMED
        named = " ".join(refused[:NAMED]) + (f" And {more} more." if more > 0 else "")
        said = f"{done}, {len(refused)} refused: {named}"
        return self.message_user(request, said, messages.WARNING)


def who(request: HttpRequest) -> User:
    """The admin lets nobody in who is not signed in."""
    return cast(User, request.user)


def badge(shown: Shown) -> SafeString:
    return format_html('<span class="badge badge-{}">{}</span>', shown.tone, shown.label)


def bar(percent: float) -> SafeString:
    return format_html(
        '<progress max="100" value="{0}">{0} %</progress> {0} %', round(max(0, percent))
    )


def link(url: str, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text)


def pretty(value: Any) -> SafeString | str:
    """JSON, one line for each item of the outermost list or mapping."""
    if not value:
        return "–"
    if isinstance(value, dict):
        lines = [f"{_json(name)}: {_json(item)}" for name, item in value.items()]
    elif isinstance(value, list):
        lines = [_json(item) for item in value]
    else:
        lines = [_json(value)]
    return block("\n".join(lines))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def block(text: str) -> SafeString | str:
    return format_html('<pre class="block" tabindex="0">{}</pre>', text) if text else "–"
