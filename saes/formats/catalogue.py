"""Numbers that change what an SAE computes and that its own files do not tell.

catalogue.json is drawn from SAELens' list of pretrained SAEs by tests/interop/make_catalogue.py.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("catalogue.json")


def known(repo_id: str | None, where: str) -> dict[str, Any]:
    """Fact name -> value for the SAE in folder `where`. Empty for everything that is not listed."""
    listed = _repositories().get(repo_id or "", {})
    return {fact: values[where] for fact, values in listed.items() if where in values}


@cache
def _repositories() -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads(FILE.read_text("utf-8"))["repositories"]  # type: ignore[no-any-return]
