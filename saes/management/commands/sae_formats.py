"""`manage.py sae_formats`: the formats that are read and written, as a table in Markdown."""

from typing import Any

from saes.formats import FORMATS, table
from saes.formats.base import WritableFormat
from saes.management.marks import TableCommand


class Command(TableCommand):
    help = "Show the formats that are read and written."
    marks = "formats"

    def markdown(self) -> str:
        return table.markdown()

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"name": family.slug, "label": family.label,
             "written": isinstance(family, WritableFormat), "recognised_by": family.looks_for}
            for family in FORMATS
        ]  # fmt: skip
