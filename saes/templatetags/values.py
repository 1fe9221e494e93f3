"""How numbers, times and hashes are written on pages."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()

# Decimal units, as the Hub shows them; so many digits that a size keeps its width while it grows.
UNITS = (("TB", 10**12, 2), ("GB", 10**9, 2), ("MB", 10**6, 1), ("kB", 10**3, 0))
SPANS = (("day", 86_400), ("h", 3600), ("min", 60))
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
JUST_NOW = 5  # seconds
LONGEST = 500  # characters of a value


def _unit(size: float) -> tuple[str, int, int]:
    # From 999.5 MB on it is 1.00 GB: never 1000.0 MB.
    return next((unit for unit in UNITS if size >= unit[1] * 0.9995), ("B", 1, 0))


@register.filter
def filesize(size: float | None) -> str:
    """2424000000 -> 2.42 GB."""
    if size is None:
        return "–"
    name, worth, digits = _unit(size)
    return f"{size / worth:,.{digits}f} {name}"


@register.filter
def out_of(done: float, total: float) -> str:
    """1.20 of 2.42 GB: both in the unit of the larger one."""
    name, worth, digits = _unit(total)
    return f"{done / worth:,.{digits}f} of {total / worth:,.{digits}f} {name}"


@register.filter
def number(value: float | None) -> str:
    """65536 -> 65,536."""
    return "–" if value is None else f"{value:,}"


@register.filter
def si(value: float | None) -> str:
    """65536 -> 65.5k."""
    if value is None:
        return "–"
    for name, worth in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= worth:
            return f"{value / worth:.3g}{name}"
    return f"{value:g}"


@register.filter
def difference(value: float | None) -> str:
    """A largest difference: 0, 3.1×10⁻⁸, or what stands for infinity."""
    if value is None:
        return "–"
    if value >= 1e300:
        return "not a number"
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}×10{str(int(exponent)).translate(RAISED)}"


@register.filter
def duration(seconds: float | None) -> str:
    """250 -> 4 min 10 s."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


@register.filter
def short(digest: str, length: int = 10) -> str:
    return str(digest)[:length]


@register.filter
def ticked(text: object) -> SafeString:
    """Words between `backticks` as code."""
    parts: list[str | SafeString] = list(str(text).split("`"))
    if len(parts) % 2:  # else there is one tick too many, as part of a name
        parts[1::2] = [format_html("<code>{}</code>", part) for part in parts[1::2]]
        return format_html_join("", "{}", ((part,) for part in parts))
    return format_html("{}", text)


@register.filter
def lookup(mapping: Mapping[Any, Any], key: object) -> Any:
    return mapping.get(key)


@register.filter
def in_json(value: object) -> str:
    """A value of a record as one line; of a very long one its beginning."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


@register.filter
def minute(moment: str | datetime | None) -> str:
    """2026-01-31 12:00 UTC, also of a time that is kept as text."""
    if isinstance(moment, str):
        moment = parse_datetime(moment)
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "–"


@register.filter
def decimals(value: object) -> str:
    """0.123456 -> 0.1235; 12.5 -> 12.5; what is no number -> –."""
    return f"{value:.4g}" if isinstance(value, int | float) else "–"


@register.simple_tag
def ago(moment: datetime | None) -> str | SafeString:
    """How long ago, with the time itself for whoever points at it."""
    if moment is None:
        return "–"
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        moment.isoformat(timespec="seconds"),
        f"{moment:%Y-%m-%d %H:%M:%S}",
        _ago((timezone.now() - moment).total_seconds()),
    )


def _ago(seconds: float) -> str:
    if seconds < JUST_NOW:
        return "just now"
    if seconds >= 60 * 86_400:
        months = int(seconds // (30.44 * 86_400))
        return f"{months} months ago" if months < 24 else f"{months // 12} years ago"
    for name, worth in SPANS:
        if seconds >= worth:
            count = int(seconds // worth)
            return f"{count} {name}{'s' if name == 'day' and count > 1 else ''} ago"
    return f"{int(seconds)} s ago"
