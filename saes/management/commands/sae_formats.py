"""`manage.py sae_formats`: the formats that are read and written, as a table in Markdown."""

import argparse
import re
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from saes.formats.table import markdown

START, END = "<!-- formats -->\n", "<!-- /formats -->"


class Command(BaseCommand):
    help = "Show the formats that are read and written."
    requires_system_checks: list[str] = []  # Django's own way to say so

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--into", type=Path, help="write it between the marks of this document")

    def handle(self, *args: Any, into: Path | None = None, **options: Any) -> None:
        if into is None:
            self.stdout.write(markdown())
            return
        text, count = re.subn(
            f"{START}.*?{END}", lambda found: START + markdown() + END, into.read_text("utf-8"),
            flags=re.DOTALL,
        )  # fmt: skip
        if count != 1:
            raise CommandError(f"{into} has no pair of marks {START.strip()} … {END}.")
        into.write_text(text, "utf-8")
