"""Folders as SAELens leaves them, beside what tests.fixtures writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saes.converter import load
from saes.errors import SaeError
from tests.fixtures import write_saelens


def refused(folder: Path, error: type[SaeError], says: str, **facts: Any) -> None:
    with pytest.raises(error, match=says):
        load(folder, facts=facts)


def write_not_plain(folder: Path, architecture: str, **changes: Any) -> Path:
    made: dict[str, Any] = dict.fromkeys(("W_enc", "b_enc"))
    if architecture == "temporal":
        changes = {"n_heads": 2, "bottleneck_factor": 8, "kval_topk": 7, **changes}
        for name, rows in (("k_ctx", 8), ("q_target", 8), ("v_ctx", 64), ("c_proj", 64)):
            made[f"attn_layers.0.{name}.weight"] = np.ones((rows, 64), np.float32)
            made[f"attn_layers.0.{name}.bias"] = np.ones(rows, np.float32)
    return write_saelens(folder, architecture, **{**made, **changes})


def scaled(folder: Path, factor: float | None, **changes: Any) -> Path:
    source = write_saelens(folder, normalize_activations="expected_average_only_in", **changes)
    if factor is not None:
        told = {"scaling_factor": factor, "has_whitening": False}
        (source / "activation_scaler.json").write_text(json.dumps(told))
    return source
