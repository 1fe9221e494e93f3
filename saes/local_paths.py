"""Texts that are paths of a machine: in what others get, they help nobody and tell too much.

A Hub id (`google/gemma-2-2b`) and a relative path (`data/train.jsonl`) look alike, so neither is
taken for a path: `is_doubtful` tells which of them somebody should look at first.
"""

import re
from collections.abc import Mapping
from typing import Any

_LOCAL = re.compile(
    r"""
    \\                                          # C:\x, \\server\share, ..\x
    | ^ \. (?! $)                               # ./x, ../x, .cache/x; `.` alone is no place
    | ^ [$%]                                    # $HOME/x, %APPDATA%/x
    | (?<! \w) ~ [\w.-]* (?: / | $)             # ~/x, ~alice/x
    | (?<! [\w/.-]) / (?! \s)(?! /[\w.\[])      # /x, x:/y; not that of https://x
    | ^ //                                      # //server/share
    | (?<! \w) [A-Za-z] : /                     # C:/x
    | (?<! \w) file:                            # file:///x
    | (?: ^ | /) \.\. (?: / | $)                # x/../y
    | (?: ^ | /) (?: saes/sae | uploads/up) _ [0-9a-f]{12} (?! \w)  # in a data directory of ours
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SUFFIX = re.compile(r"\.[A-Za-z]{2,11}$")  # no version: gpt-3.5, pythia-1.4b


def is_local_path(value: object) -> bool:
    """Whether it is a text that is, or holds, a path of a machine."""
    return isinstance(value, str) and _LOCAL.search(value.strip()) is not None


def is_doubtful(text: str) -> bool:
    """Whether it may be a path all the same: a Hub id has one slash at most, and no suffix."""
    return not is_local_path(text) and (text.count("/") > 1 or _SUFFIX.search(text) is not None)


def without_local(value: Any) -> Any:
    """The same without paths of a machine, however deep they lie in tables and lists."""
    if isinstance(value, Mapping):
        kept = {name: it for name, it in value.items() if not is_local_path(it)}
        return {name: without_local(it) for name, it in kept.items()}
    if isinstance(value, list | tuple):
        return [without_local(it) for it in value if not is_local_path(it)]
    return value


def holds_local(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(holds_local, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_local, value))
    return is_local_path(value)
