"""Rows of the library as JSON and CSV, as a browser gets them."""

import csv
import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import AsyncClient

from saes.admin.exporting import cell
from saes.models import Sae
from tests.admin.conftest import SAES


async def exported(owner: User, action: str, *saes: Sae, **more: str) -> Any:
    client = AsyncClient()
    await client.aforce_login(owner, "django.contrib.auth.backends.ModelBackend")
    chosen = {"_selected_action": [sae.id for sae in saes], "index": "0", **more}
    answer: Any = await client.post(SAES, {"action": action, **chosen})
    assert answer.status_code == 200
    assert "attachment" in answer["Content-Disposition"]
    return b"".join([part async for part in answer]).decode()


@pytest.mark.django_db(transaction=True)
async def test_rows_are_exported_as_json(owner: User, sae: Sae) -> None:
    rows = json.loads(await exported(owner, "export_json", sae))
    assert [row["id"] for row in rows] == [sae.id]
    assert rows[0]["facts"] == sae.facts and rows[0]["certificate"]["passed"] is True
    entry = await LogEntry.objects.aget()
    assert (entry.object_id, entry.change_message) == (sae.id, "Exported as JSON.")


@pytest.mark.django_db(transaction=True)
async def test_cells_that_a_spreadsheet_would_run_are_text(owner: User, sae: Sae) -> None:
    hostile = {"name": "=cmd()", "description": "\tx", "notes": "-1+1", "tags": ["@SUM(A1)"]}
    await Sae.objects.filter(id=sae.id).aupdate(**hostile, layer=-1)
    (row,) = csv.DictReader(StringIO(await exported(owner, "export_csv", sae)))
    told = [row[name] for name in ("name", "description", "notes", "tags", "layer")]
    assert told == ["'=cmd()", "'\tx", "'-1+1", "'@SUM(A1)", "-1"]


STARTS = ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", " =",
          "\u00a0\u3000 =", "\ufeff=", "\u200b@", "\x00=", " \uff1d"]  # fmt: skip


@pytest.mark.parametrize("start", STARTS)
def test_every_start_of_a_formula_is_known(start: str) -> None:
    assert cell(f"{start}1") == f"'{start}1"
    assert cell(f"1{start}") == f"1{start}"
    assert cell(" indented") == " indented"


@pytest.mark.django_db(transaction=True)
async def test_all_rows_of_a_long_list_are_exported_in_order(owner: User) -> None:
    rows = [Sae(name=f"n{n:03}", source="local") for n in range(450)]
    saes = await Sae.objects.abulk_create(rows)
    text = await exported(owner, "export_json", saes[0], select_across="1", **{"_o": ""})
    assert len(json.loads(text)) == 450
    table = list(csv.DictReader(StringIO(await exported(owner, "export_csv", saes[3], saes[4]))))
    assert {row["name"] for row in table} == {"n003", "n004"}
