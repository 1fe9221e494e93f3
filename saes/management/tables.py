"""Tables for a terminal: aligned columns of what may hold anything, wide letters included."""

import unicodedata
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A head that begins with `>` has its column flush right."""
    right = [name.startswith(">") for name in head]
    lines = [[name.removeprefix(">") for name in head], *([_cell(it) for it in r] for r in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(_padded(*it) for it in zip(cells, widths, right, strict=True)).rstrip()
        for cells in lines
    )


def _cell(value: object) -> str:
    return "–" if value is None or value == "" else plain(str(value))


def _padded(text: str, wanted: int, right: bool) -> str:
    blanks = " " * (wanted - width(text))
    return blanks + text if right else text + blanks


def plain(text: str) -> str:
    """Without what would move the cursor, colour the terminal or turn its lines around."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def width(text: str) -> int:
    """Columns of a terminal: accents take none, letters of East Asia two."""
    if text.isascii():
        return len(text)
    return sum(_columns(sign) for sign in text)


def _columns(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"
