"""`manage.py sae_errors`: every error a user can meet, as a table in Markdown."""

from typing import Any

from saes import errors
from saes.management.marks import TableCommand


class Command(TableCommand):
    help = "Show every error code, what it means and what to do."
    marks = "errors"

    def markdown(self) -> str:
        return errors.markdown()

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"code": kind.code, "status": kind.status, "when": kind.__doc__,
             "solution": kind.solution}
            for kind in errors.all_errors()
        ]  # fmt: skip
