"""cfg.json and its like: small, strict, and every value asked for by type. Errors name the key."""

import math
from typing import Any

from saes.errors import BrokenFile
from saes.formats.base import Source
from saes.formats.containers import parse_json

MAX_DEPTH = 32
MAX_TEXT = 4096
MAX_WHOLE = 2**31


class Config:
    """One JSON object of the file `name`. A key that is absent or null reads as None."""

    def __init__(self, name: str, values: dict[str, Any], path: str = "") -> None:
        self.name, self.values, self._path = name, values, path

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def whole(self, key: str, least: int = 1) -> int | None:
        value = self.values.get(key)
        if value is None or (type(value) is int and least <= value < MAX_WHOLE):
            return value
        raise self.wrong(key, f"a whole number from {least} on")

    def number(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value):
            return float(value)
        raise self.wrong(key, "a number")

    def flag(self, key: str) -> bool | None:
        value = self.values.get(key)
        if value is None or type(value) is bool:
            return value
        raise self.wrong(key, "true or false")

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is None or (
            isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()
        ):
            return value
        raise self.wrong(key, "a text of one line")

    def section(self, key: str) -> "Config":
        value = self.values.get(key)
        if value is None or isinstance(value, dict):
            return Config(self.name, value or {}, f"{self._path}{key}.")
        raise self.wrong(key, "a table")

    def wrong(self, key: str, wanted: str) -> BrokenFile:
        return BrokenFile(f"`{self.name}`: {self._path}{key} should be {wanted}.")


def read_config(source: Source, name: str) -> Config:
    values = parse_json(name, source.text(name))
    if _depth(values) > MAX_DEPTH:
        raise BrokenFile(f"`{name}` is nested too deeply.")
    return Config(name, values)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [inner for item in level for inner in _inner(item)]
    return depth


def _inner(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []
