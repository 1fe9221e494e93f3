"""Facts on a command line: NAME=VALUE."""

from collections.abc import Iterable

from django.core.management.base import CommandError


def read_facts(words: Iterable[str]) -> dict[str, str]:
    return dict(_split(word) for word in words)


def _split(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not value:
        raise CommandError(f"{word!r} is not of the form NAME=VALUE.")
    return name, value
