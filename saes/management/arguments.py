"""Words of a command line as values; what cannot be one is wrong usage. Secrets come by stdin."""

import argparse
import getpass
import sys
from collections.abc import Callable

from saes.errors import BadToken

LONGEST_LINE = 200
LONGEST_TEXT = 20_000
LONGEST_TOKEN = 400


def line(word: str) -> str:
    return _printable(word, LONGEST_LINE)


def place(word: str) -> str:
    """A path in a repository, or its page's address."""
    return _printable(word, 500)


def long_place(word: str) -> str:
    """A path on this machine."""
    return _printable(word, 4000)


def paragraphs(word: str) -> str:
    _printable(word.replace("\n", "").replace("\t", ""), LONGEST_TEXT)
    return word


def _printable(word: str, longest: int) -> str:
    if len(word) > longest or not word.isprintable():
        raise argparse.ArgumentTypeError(
            f"{word[:40]!r} is longer than {longest} characters, or holds some that do not print."
        )
    return word


def named_value(word: str) -> tuple[str, str]:
    name, equals, value = _printable(word, LONGEST_TEXT).partition("=")
    if not equals or not value:
        raise argparse.ArgumentTypeError(f"{word!r} is not of the form NAME=VALUE.")
    return name, value


def whole(least: int, most: int) -> Callable[[str], int]:
    def number(word: str) -> int:
        if not (word.isascii() and word.isdigit() and len(word) < 20):
            raise argparse.ArgumentTypeError(f"{word[:40]!r} is no whole number.")
        if not least <= int(word) <= most:
            raise argparse.ArgumentTypeError(f"it has to be from {least:,} to {most:,}.")
        return int(word)

    return number


def token_from_stdin() -> str:
    """A token of the Hub. A command line would show it to everybody on this machine."""
    asked = sys.stdin.isatty()
    token = getpass.getpass("Hub token: ") if asked else sys.stdin.readline(LONGEST_TOKEN + 2)
    token = token.strip()
    if not token or len(token) > LONGEST_TOKEN or any(not "!" <= sign <= "~" for sign in token):
        raise BadToken(
            "Standard input holds no token.", solution="Give it as the first line, alone."
        )
    return token
