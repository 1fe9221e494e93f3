"""The formats as a table in Markdown: the README's, made from the registry."""

from saes.formats import FORMATS
from saes.formats.architectures import NOT_PLAIN
from saes.formats.base import Format, WritableFormat

HEAD = "| format | name | written | recognised by |\n|---|---|---|---|\n"


def markdown() -> str:
    rows = "".join(_row(family) for family in FORMATS)
    kept = "".join(f"* `{kind}`: {reason}.\n" for kind, reason in NOT_PLAIN.items())
    return f"{HEAD}{rows}\nNo plain dictionaries, kept as they are:\n\n{kept}"


def _row(family: Format) -> str:
    written = "yes" if isinstance(family, WritableFormat) else "–"
    return f"| {family.label} | `{family.slug}` | {written} | {family.looks_for} |\n"
