"""`manage.py sae_formats`: the formats that are read and written, as a table in Markdown."""

import argparse
from pathlib import Path
from typing import Any

from saes.formats import FORMATS
from saes.formats.base import WritableFormat
from saes.formats.table import markdown
from saes.management.base import SaeCommand
from saes.management.marks import write_between
from saes.management.output import put


class Command(SaeCommand):
    help = "Show the formats that are read and written."
    needs_database = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--into", type=Path, help="write it between the marks of this document")

    def work(self, options: dict[str, Any]) -> None:
        if options["into"]:
            write_between(options["into"], "formats", markdown())
        elif self.in_json:
            self.print_json([_told(family) for family in FORMATS])
        else:
            put(self.stdout, markdown())


def _told(family: Any) -> dict[str, Any]:
    return {
        "name": family.slug,
        "label": family.label,
        "written": isinstance(family, WritableFormat),
        "recognised_by": family.looks_for,
    }
