"""The front matter of a README: read as YAML; of what is written there only changed keys change.

A README is hostile, and it is its owner's: no value is read and written anew that stays the same.
PyYAML tells where each key and value stands; what is not sure to come out right is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from huggingface_hub import repocard

from saes.errors import BadCard

LONGEST = 2**20  # bytes of a README
LONGEST_BLOCK = 2**16  # letters of its front matter: hostile ones take a second for 20,000
LONGEST_NUMBER = 100  # letters: the time that YAML's 1:00:00 takes grows with their square
MARK = "\ufeff"  # some editors put it before the first letter; front matter comes after it
_EMPTY = re.compile(r"^(\s*---\r?\n)()(---[ \t]*(\r\n|\n|$))")  # the client's pattern misses it
_ODD_BREAK = re.compile("\r(?!\n)|[\x85\u2028\u2029]")
_OLD_MAC = re.compile(r"\s*---\r(?!\n)")
_SPACED = re.compile(r"\s*---[ \t]+\r?\n(?:.*\n)*?---[ \t]*\r?$", re.MULTILINE)
_CRLF = re.compile(r"[^\n]*\r\n")
_NUMBER = re.compile(r"[-+]?(0o[0-7_]+|([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9_]+)(e[-+]?[0-9]+)?)$", re.I)
_YAML = "tag:yaml.org,2002:"

Edit = tuple[int, int, str]  # from, to, and what comes there
Pairs = dict[str, tuple[yaml.Node, yaml.Node]]  # a key and its value


def read(text: str) -> dict[str, Any]:
    """What a README says of itself; nothing where it has no front matter. Raises BadCard.

    A key may be other than a text: YAML 1.1 takes `on:` for True.
    """
    refuse_long(text)
    if "\0" in text:
        raise BadCard("README.md holds a NUL: it is no text.")
    place = _place(text)
    if place and place[1] - place[0] > LONGEST_BLOCK:
        raise BadCard(f"The front matter of README.md has more than {LONGEST_BLOCK:,} letters.")
    told = _values(text[place[0] : place[1]]) if place else {}
    if not isinstance(told, dict):
        raise BadCard("The front matter of README.md is no YAML table of keys and values.")
    return told


def split(text: str) -> tuple[str, str]:
    """The front matter with its lines of dashes, and what is below."""
    place = _place(text)
    return (text[: place[2]], text[place[2] :]) if place else ("", text)


def refuse_long(text: str) -> None:
    """Raises BadCard."""
    if (size := len(text.encode())) > LONGEST:
        raise BadCard(
            f"README.md has {size:,} bytes, and at most {LONGEST:,} are allowed.",
            solution="Shorten README.md in the repository, or publish to several repositories.",
        )


def with_data(text: str, data: Mapping[str, Any]) -> str:
    """The same README with this front matter; all but the keys that change stays byte for byte.

    Keys that are new come at its end. Raises BadCard.
    """
    old = read(text)
    changes = {key: it for key, it in data.items() if key not in old or _differ(old[key], it)}
    if not changes:
        return text
    made = _written(text, old, changes)
    if _differ(read(made), {**old, **data}):
        raise BadCard("Keys cannot be merged into the front matter of README.md as it is written.")
    return made


def _differ(one: Any, other: Any) -> bool:
    """Strict: 1 is not true, and a value that is no number equals itself."""
    return repr(one) != repr(other)


# --- where it stands and what it says -------------------------------------------------------------


def _place(text: str) -> tuple[int, int, int] | None:
    """Where the YAML begins, where it ends, and where the body begins: as the Hub's client says."""
    bare = text.removeprefix(MARK)
    found = repocard.REGEX_YAML_BLOCK.search(bare) or _EMPTY.search(bare)
    if not found:
        return None
    begin, dashes = found.end(1), bare.index("-", found.end(2))
    if bare[begin - 1 : begin + 1] == "\r\n":  # the pattern parts them where nothing is between
        begin += 1
    skipped = len(text) - len(bare)
    return begin + skipped, dashes + skipped, found.end() + skipped


class _Loader(yaml.SafeLoader):
    """No aliases, no endless numbers, and only values that JSON can hold."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A few lines with aliases may stand for gigabytes, once somebody copies them."""
        if self.check_event(yaml.AliasEvent):
            raise BadCard(
                "The front matter of README.md has aliases; write out what they stand for."
            )
        return super().compose_node(parent, index)

    def text(self, node: yaml.ScalarNode) -> str:
        value = str(self.construct_scalar(node))
        value.encode()  # half a pair of surrogates, which YAML can spell, is a ValueError here
        return value

    def whole(self, node: yaml.ScalarNode) -> int:
        return int(self.construct_yaml_int(_short(node)))

    def real(self, node: yaml.ScalarNode) -> float:
        return float(self.construct_yaml_float(_short(node)))

    def table(self, node: yaml.MappingNode) -> dict[Any, Any]:
        return self.construct_mapping(node, deep=True)


def _short(number: yaml.ScalarNode) -> yaml.ScalarNode:
    if len(number.value) > LONGEST_NUMBER:
        raise ValueError("This number has too many digits.")
    return number


for _name in ("str", "timestamp", "binary", "value"):
    _Loader.add_constructor(_YAML + _name, _Loader.text)
_Loader.add_constructor(_YAML + "int", _Loader.whole)
_Loader.add_constructor(_YAML + "float", _Loader.real)
_Loader.add_constructor(_YAML + "set", _Loader.table)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise BadCard("The front matter of README.md is nested too deeply.") from error
    except (ValueError, TypeError, LookupError, AttributeError, yaml.YAMLError) as error:
        raise BadCard("The front matter of README.md is no valid YAML table.") from error


def _values(block: str) -> Any:
    with _explained():
        loader = _Loader(block)
        root = loader.get_single_node()
        return {} if root is None else loader.construct_document(root)


def _root(block: str) -> yaml.Node | None:
    """The nodes, which tell where they stand."""
    with _explained():
        return _Loader(block).get_single_node()


# --- written --------------------------------------------------------------------------------------


def _written(text: str, old: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    place = _place(text)
    if place is None:
        return _begun(text, changes)
    begin, end, _ = place
    head, block = text[:begin], text[begin:end]
    if _ODD_BREAK.search(head + block):
        raise BadCard(
            "The front matter of README.md has line breaks that some programs do not take for "
            "such: a lone carriage return, U+0085, U+2028 or U+2029."
        )
    newline = "\r\n" if head.endswith("\r\n") else "\n"
    pairs = _pairs(block)
    for start, stop, new in sorted(_edits(block, pairs, old, changes, newline), reverse=True):
        block = block[:start] + new + block[stop:]
    if added := {name: it for name, it in changes.items() if name not in pairs}:
        block += _dumped(added, newline)
    return head + block + text[end:]


def _begun(text: str, changes: Mapping[str, Any]) -> str:
    """Front matter where there is none."""
    bare = text.removeprefix(MARK)
    if _OLD_MAC.match(bare):
        raise BadCard("README.md begins with dashes and a lone carriage return: write a line feed.")
    if _SPACED.match(bare):  # front matter to some programs, and to others not
        raise BadCard("README.md begins with dashes and spaces: take away the spaces behind them.")
    newline = "\r\n" if _CRLF.match(text) else "\n"
    made = _dumped(changes, newline)
    return f"{text[: len(text) - len(bare)]}---{newline}{made}---{newline}{bare}"


def _edits(
    block: str, pairs: Pairs, old: Mapping[str, Any], changes: Mapping[str, Any], newline: str
) -> Iterator[Edit]:
    for name in changes.keys() & pairs.keys():
        if more := _more(old.get(name), changes[name]):
            yield from _grown(block, *pairs[name], more, newline)
        else:
            yield _replaced(block, name, *pairs[name], changes[name], newline)


def _more(old: Any, new: Any) -> list[Any]:
    """What a list has more than the one that it was, or than the single value."""
    known = old if isinstance(old, list) else [] if old is None else [old]
    if not known or not isinstance(new, list) or _differ(known, new[: len(known)]):
        return []
    return new[len(known) :]


def _pairs(block: str) -> Pairs:
    """The nodes of each key, where each stands at the beginning of a line and once."""
    root = _root(block)
    if root is None:
        return {}
    nodes = [root, *(key for key, _ in root.value)]
    if getattr(root, "flow_style", True) or any(it.start_mark.column for it in nodes):
        raise BadCard(
            "In the front matter of README.md, write each key at the beginning of a line of its "
            "own, as in `license: mit`."
        )
    found = {}
    for key, value in root.value:
        if key.value in found:
            raise BadCard(f"The front matter of README.md has {str(key.value)[:80]!r} twice.")
        found[key.value] = key, value
    return found


def _grown(
    block: str, key: yaml.Node, node: yaml.Node, more: Sequence[Any], newline: str
) -> Iterator[Edit]:
    """More items after those that are there; a single value becomes the first of a list."""
    items = [_dumped([it], newline, default_flow_style=True).strip()[1:-1] for it in more]
    if not isinstance(node, yaml.SequenceNode):
        _refuse_comment(key, block[key.end_mark.index : node.start_mark.index])
        yield key.end_mark.index, node.start_mark.index, f":{newline}- "
        yield _next_line(block, node, "".join(f"- {it}{newline}" for it in items))
    elif node.flow_style:
        at = _end(node.value[-1])
        yield at, at, "".join(f", {it}" for it in items)
    else:
        indent = " " * node.start_mark.column
        yield _next_line(block, node, "".join(f"{indent}- {it}{newline}" for it in items))


def _next_line(block: str, node: yaml.Node, new: str) -> Edit:
    """After the comment that may stand behind the value. A text of many lines ends below them."""
    end = _end(node)
    at = end if block[end - 1] == "\n" else block.index("\n", end) + 1
    return at, at, new


def _replaced(
    block: str, name: str, key: yaml.Node, node: yaml.Node, value: Any, newline: str
) -> Edit:
    """A comment behind the value stays where it is."""
    start, stop = key.end_mark.index, _end(node)
    is_plain = isinstance(node, yaml.ScalarNode) and node.style not in ("|", ">")
    _refuse_comment(key, block[start : node.start_mark.index if is_plain else stop])
    made = _dumped({name: value}, newline).removeprefix(name)
    return start, stop, made if block[stop - 1] == "\n" else made.rstrip()


def _refuse_comment(key: yaml.Node, between: str) -> None:
    if "#" in between:
        raise BadCard(
            f"In the front matter of README.md, a comment stands inside of {key.value!r}: "
            "write it on a line above."
        )


def _end(node: yaml.Node) -> int:
    """Where a value ends. The mark of a block ends where the next one begins, after comments."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return int(node.end_mark.index)


class _Dumper(yaml.SafeDumper):
    """Quotes also the texts that are numbers in YAML 1.2, which the Hub reads: 1e3, 0o17."""


_Dumper.add_implicit_resolver(_YAML + "float", _NUMBER, list("+-.0123456789"))


def _dumped(value: Any, newline: str, **how: Any) -> str:
    how |= {"sort_keys": False, "width": 10**9, "line_break": newline}
    made = str(yaml.dump(value, Dumper=_Dumper, allow_unicode=True, **how))
    return str(yaml.dump(value, Dumper=_Dumper, **how)) if _ODD_BREAK.search(made) else made
