"""Texts that name a place on this machine: what is given to others goes without them."""

import re
from typing import Any

_WORDS = re.compile(r"[\s'\"`=(),;\[\]{}]+")
_LOCAL = re.compile(r"/\w|~[\w/]|\.{1,2}/|file:|[A-Za-z]:[\\/]|\\\\")


def is_local(text: str) -> bool:
    """Whether a word of it looks like a path of a machine: absolute, from a home or from here.

    Names of the Hub (`google/gemma-2-2b`) and addresses of the web are none.
    """
    return any(_LOCAL.match(word) or "\\" in word for word in _WORDS.split(text))


def without_local(value: Any) -> Any:
    """The same without such texts: of tables and lists the entries, else None."""
    if isinstance(value, str):
        return None if is_local(value) else value
    if isinstance(value, dict):
        kept = {name: without_local(it) for name, it in value.items() if not is_local(str(name))}
        return {name: it for name, it in kept.items() if it is not None or value[name] is None}
    if isinstance(value, list | tuple):
        return [kept for it in value if (kept := without_local(it)) is not None or it is None]
    return value
