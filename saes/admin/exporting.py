"""Chosen rows as JSON and CSV, sent while they are read: they may be all of the library."""

import csv
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from io import StringIO
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.http import StreamingHttpResponse

from saes.models import Sae

AT_ONCE = 200
COLUMNS = (
    "id", "name", "description", "notes", "tags", "source", "hf_repo_id", "hf_repo_type",
    "hf_filepath", "hf_revision", "hf_commit", "status", "error_code", "error_message", "format",
    "architecture", "model_name", "layer", "hook_name", "hook_type", "d_in", "d_sae",
    "file_size_bytes", "created_at", "updated_at", "downloaded_at",
)  # fmt: skip
DEEP = ("facts", "given_facts", "tensors", "certificate")  # what no cell of a table can hold
# A spreadsheet would take these for formulas: also behind blanks, and in the width of East Asia.
ACTS = re.compile(r"[\t\r\n]|[\s\x00-\x1f\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
Sent = Callable[[list[Sae]], Awaitable[None]]


def as_json(ids: list[str], sent: Sent) -> StreamingHttpResponse:
    return _attached(_json_parts(ids, sent), "application/json", "saes.json")


def as_csv(ids: list[str], sent: Sent) -> StreamingHttpResponse:
    return _attached(_csv_parts(ids, sent), "text/csv; charset=utf-8", "saes.csv")


def _attached(parts: AsyncIterator[str], kind: str, name: str) -> StreamingHttpResponse:
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(parts, content_type=kind, headers=disposition)


async def _read(ids: list[str], sent: Sent) -> AsyncIterator[list[Sae]]:
    """In portions: a query that stays open would hold up SQLite's log for as long as it takes."""
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        found = await Sae.objects.ain_bulk(some)
        saes = [found[sae_id] for sae_id in some if sae_id in found]
        yield saes
        await sent(saes)


async def _json_parts(ids: list[str], sent: Sent) -> AsyncIterator[str]:
    yield "["
    before = "\n"
    async for saes in _read(ids, sent):
        for sae in saes:
            values = {name: getattr(sae, name) for name in COLUMNS + DEEP}
            yield before + json.dumps(values, cls=DjangoJSONEncoder, ensure_ascii=False)
            before = ",\n"
    yield "\n]\n"


async def _csv_parts(ids: list[str], sent: Sent) -> AsyncIterator[str]:
    yield _line(COLUMNS)
    async for saes in _read(ids, sent):
        for sae in saes:
            yield _line([cell(getattr(sae, name)) for name in COLUMNS])


def cell(value: Any) -> Any:
    """A value as a table holds it; what a spreadsheet would run stands behind an apostrophe."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return f"'{value}" if isinstance(value, str) and ACTS.match(value) else value


def _line(cells: Any) -> str:
    line = StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
