"""What the record of a training run says, in the words of miStudio's files and its database."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.utils.dateparse import parse_datetime

from saes.models import Training

RECORD = "training.json"  # beside the checkpoints, where somebody wrote one
MOST_TEXT = 1 << 20  # bytes


def record_of(directory: Path) -> Mapping[str, Any]:
    path = directory / RECORD
    try:
        if not path.is_file() or path.stat().st_size > MOST_TEXT:
            return {}
        record = from_text(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # no part of the SAEs: a broken one takes nothing else away
    return record if isinstance(record, dict) else {}


def columns_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record in the words of miStudio's database as columns of our row; nonsense is left out."""
    name, model = record.get("name"), record.get("model_name") or record.get("model_id")
    datasets = record.get("datasets") or record.get("dataset_ids") or []
    status, params = str(record.get("status")).lower(), record.get("hyperparameters")
    return {
        "name": str(name or "")[:200],
        "model_name": str(model or "")[:200],
        "datasets": [str(it)[:200] for it in datasets] if isinstance(datasets, list) else [],
        "hyperparameters": params if isinstance(params, dict) else {},
        "status": status if status in Training.Status.values else Training.Status.COMPLETED,
        "current_step": _whole(record.get("current_step")),
        "total_steps": _whole(record.get("total_steps")),
        "final_loss": _number(record.get("final_loss", record.get("current_loss"))),
        "final_l0": _number(record.get("final_l0", record.get("current_l0_sparsity"))),
        "started_at": _time(record.get("started_at")),
        "completed_at": _time(record.get("completed_at")),
    }


def from_text(value: Any) -> Any:
    """What text holds of JSON, or a value of JSON, as a database can store it. Else the text."""
    text = value if isinstance(value, str) else None
    if text is not None and text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        found = _finite(value if text is None else json.loads(text))
        stored = json.dumps(found, ensure_ascii=False).encode()  # half of a letter cannot be
    except (ValueError, RecursionError):
        return text
    return text if b"\\u0000" in stored else found


def _finite(value: Any) -> Any:
    """Without NaN, and what no float can be, such as 1e400. Lists keep their places."""
    if isinstance(value, dict):
        return {name: _finite(it) for name, it in value.items() if not _is_endless(it)}
    if isinstance(value, list):
        return [_finite(it) for it in value]
    return None if _is_endless(value) else value


def _is_endless(value: Any) -> bool:
    """PostgreSQL itself gives 1e400 as a one with 400 zeros."""
    return isinstance(value, int | float) and not abs(value) <= sys.float_info.max


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11:
        value = int(value)
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if good else None


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if good else None


def _time(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = parse_datetime(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
