"""Tables in documents that commands write: between `<!-- name -->` and `<!-- /name -->`."""

import re
from pathlib import Path

from saes.management.base import Failed


def write_between(document: Path, name: str, table: str) -> None:
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    text, count = re.subn(
        f"{start}.*?{end}", lambda found: start + table + end, document.read_text("utf-8"),
        flags=re.DOTALL,
    )  # fmt: skip
    if count != 1:
        raise Failed(f"{document} has no pair of marks {start.strip()} … {end}.")
    document.write_text(text, "utf-8")
