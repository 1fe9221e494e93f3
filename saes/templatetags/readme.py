"""The card of a repository as a part of a page: rendered without trust, its front matter, its diff.

Whoever may write to the repository wrote some of it. No HTML of it comes through, no picture is
loaded, and only links to the web remain.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from saes.errors import BadCard
from saes.hub import front_matter
from saes.templatetags.parts import icon
from saes.templatetags.values import in_json

register = template.Library()
LONGEST = 100_000  # letters that are rendered
MOST_LINES = 3_000  # that are compared: the time grows with their square
BELOW = 2  # a heading of the card is so many levels further down in the page
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n.*?^---[ \t]*(\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*<!--.*?-->[ \t]*$", re.MULTILINE)
_WEB = ("https://", "http://")
_ALIGNED = {"text-align:right": "num", "text-align:center": "mid"}


# --- rendered -------------------------------------------------------------------------------------


@register.filter
def rendered(text: str) -> SafeString:
    """What is below the front matter, as HTML of ours."""
    body = _COMMENT.sub("", _FRONT.sub("", text, count=1))
    return SafeString(_MARKDOWN.render(body[:LONGEST]))  # it escapes whatever it does not make


@register.filter
def is_cut(text: str) -> bool:
    return len(_FRONT.sub("", text, count=1)) > LONGEST


def _may_link(url: str) -> bool:
    """Others than of the web and of the repository itself stay the text that they are."""
    scheme = re.match(r"[^/?#]*?:", url)
    return scheme is None or url.lower().startswith(_WEB)


class Renderer(RendererHTML):
    """Only what is named here differs from plain HTML. No attribute of the text's own remains."""

    def heading_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return f"<h{_level(tokens[at])}>"

    def heading_close(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return f"</h{_level(tokens[at])}>\n"

    def image(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        said = tokens[at].content or "a picture"
        return format_html('<span class="readme-image">{}{}</span>', icon("photo"), said)

    def link_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        """Links into a repository that may not be there yet lead nowhere."""
        url = str(tokens[at].attrs.get("href", ""))
        if not url.lower().startswith(_WEB):
            return '<span class="readme-link">'
        return format_html('<a href="{}" rel="noreferrer nofollow">', url)

    def link_close(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        before = next(n for n in range(at, -1, -1) if tokens[n].type == "link_open")
        url = str(tokens[before].attrs.get("href", "")).lower()
        return "</a>" if url.startswith(_WEB) else "</span>"

    def fence(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return format_html('<pre tabindex="0"><code>{}</code></pre>\n', tokens[at].content)

    def code_block(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return self.fence(tokens, at)

    def table_open(self, *_: Any) -> str:
        label = 'role="region" aria-label="Table" tabindex="0"'
        return f'<div class="readme-table" {label}><table class="table data">\n'

    def table_close(self, *_: Any) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return f"<th{_aligned(tokens[at])}>"

    def td_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return f"<td{_aligned(tokens[at])}>"


def _level(heading: Token) -> int:
    return min(6, int(heading.tag[1:]) + BELOW)


def _aligned(cell: Token) -> str:
    name = _ALIGNED.get(str(cell.attrs.get("style", "")))
    return f' class="{name}"' if name else ""


def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False}, renderer_cls=Renderer).enable("table")
    made.validateLink = _may_link  # type: ignore[method-assign]
    return made


_MARKDOWN = _markdown()


# --- front matter and differences -----------------------------------------------------------------


@register.filter
def front(text: str) -> list[tuple[str, list[str]]]:
    """What a README says of itself: names and values."""
    try:
        told = front_matter.read(text)
    except BadCard:
        return []
    return [(name, _values(value)) for name, value in told.items()]


def _values(value: Any) -> list[str]:
    return [in_json(it) for it in value] if isinstance(value, list) else [in_json(value)]


@dataclass(frozen=True)
class Line:
    kind: str  # add, drop, same or part: where another part of the file begins
    text: str


@register.simple_tag
def readme_changes(before: str, after: str) -> list[Line] | None:
    """The lines that change, and three around each; None where there are too many to compare."""
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > MOST_LINES:
        return None
    return list(_lines(list(difflib.unified_diff(old, new, n=3, lineterm=""))))


def _lines(diff: Sequence[str]) -> Iterator[Line]:
    kinds = {"+": "add", "-": "drop", "@": "part"}
    for it in diff[2:]:  # after the names of both files
        kind = kinds.get(it[0], "same")
        yield Line(kind, it if kind == "part" else it[1:])
