"""`manage.py sae_errors`: every error a user can meet, as a table in Markdown."""

import argparse
from pathlib import Path
from typing import Any

from saes.errors import all_errors, markdown
from saes.management.base import SaeCommand
from saes.management.marks import write_between
from saes.management.output import put


class Command(SaeCommand):
    help = "Show every error code, what it means and what to do."
    needs_database = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--into", type=Path, help="write it between the marks of this document")

    def work(self, options: dict[str, Any]) -> None:
        if options["into"]:
            write_between(options["into"], "errors", markdown())
        elif self.in_json:
            self.print_json([_told(kind) for kind in all_errors()])
        else:
            put(self.stdout, markdown())


def _told(kind: Any) -> dict[str, Any]:
    return {
        "code": kind.code,
        "status": kind.status,
        "when": kind.__doc__,
        "solution": kind.solution,
    }
