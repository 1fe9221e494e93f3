"""Commands that show a table, and write it into a document between two marks of its name."""

import argparse
import re
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from saes.management.base import Failed, SaeCommand
from saes.management.output import put


class TableCommand(SaeCommand):
    """Markdown, or with --json the same rows as values."""

    needs_database = False
    marks: ClassVar[str]  # `formats` stands for `<!-- formats -->` and `<!-- /formats -->`

    @abstractmethod
    def markdown(self) -> str: ...

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]: ...

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--into", type=Path, help="write it between the marks of this document")

    def work(self, options: dict[str, Any]) -> None:
        if options["into"]:
            _write_between(options["into"], self.marks, self.markdown())
        elif self.in_json:
            self.print_json(self.rows())
        else:
            put(self.stdout, self.markdown())


def _write_between(document: Path, name: str, table: str) -> None:
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    text, count = re.subn(
        f"{start}.*?{end}", lambda found: start + table + end, document.read_text("utf-8"),
        flags=re.DOTALL,
    )  # fmt: skip
    if count != 1:
        raise Failed(f"{document} has no pair of marks {start.strip()} … {end}.")
    document.write_text(text, "utf-8")
