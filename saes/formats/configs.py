"""cfg.json, conf.yaml and their like: small, strict, and every value asked for by type.

Errors name the key. Of YAML only what a dumped configuration holds is read: a table of tables,
lists, texts and numbers; no anchors, which can grow without end, and no tags.
"""

import math
import re
from collections.abc import Hashable
from typing import Any

import yaml

from saes.errors import BrokenFile, TooLarge
from saes.formats.base import Source
from saes.formats.files.containers import parse_json

MAX_DEPTH = 32
MAX_TEXT = 4096
MAX_WHOLE = 2**31
MAX_YAML = 64 << 10  # characters; the parser, in Python, needs up to 3 s for so many
SCALARS = (
    ("null", r"~|null|Null|NULL|"),
    ("bool", r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,18})"),
    # PyYAML takes 5e-05 for a text; OmegaConf and wandb write numbers so.
    ("float", r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"),
)


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


def read_yaml(source: Source, name: str) -> Config:
    text = source.text(name)
    if len(text) > MAX_YAML:
        raise TooLarge(f"`{name}` is longer than the {MAX_YAML:,} characters of a configuration.")
    try:
        values = yaml.load(text, _StrictLoader)  # which builds plain values only
    except _Refused as refused:
        raise BrokenFile(f"`{name}` {refused}.") from refused
    except yaml.YAMLError as error:
        raise BrokenFile(f"`{name}` holds no valid YAML.") from error
    if not isinstance(values, dict):
        raise BrokenFile(f"`{name}` should hold one table.")
    return Config(name, values)


class _Refused(Exception):
    """Valid YAML that no configuration needs."""


class _StrictLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # none of SafeLoader's: no dates, no `1:30`
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _Refused("has anchors or aliases")
        if event.tag is not None:
            raise _Refused("has tags")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Refused("is nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Keys are texts as written: `1` and `on` too, which wandb and GitHub write as keys."""
        table = dict[Hashable, Any]()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused("has a key that is no text")
            if key.value in table:
                raise _Refused(f"has the key {key.value[:100]!r} twice")
            table[key.value] = self.construct_object(value, deep=True)
        return table


for _tag, _pattern in SCALARS:
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), None
    )


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
