"""The offered PyTorch code for top-k transcoders, of which no sample exists."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytest_django import Settings

from saes.formats import FolderSource, by_slug
from saes.models import Sae
from saes.snippets import snippets_for
from saes.storage import Library
from tests.fixtures.circuit_tracer import certified, layer, written


@pytest.mark.django_db
@pytest.mark.parametrize("kinds", [("k",), ("k", "skip")])
def test_pasted_code_computes_a_top_k_transcoder(
    kinds: tuple[str, ...], tmp_path: Path, settings: Settings
) -> None:
    settings.DATA_DIR = tmp_path
    native = Library(tmp_path).native("sae_aaaaaaaaaaaa")
    info = certified(written(tmp_path / "in", layer(*kinds)), native)
    facts = {name: {"value": fact.value} for name, fact in info.facts.items()}
    architecture = info.get("architecture")
    sae = Sae(
        id="sae_aaaaaaaaaaaa", d_in=16, architecture=architecture, facts=facts, format=info.format
    )
    pasted: dict[str, Any] = {}
    exec(snippets_for(sae)[0].code, pasted)
    forward = by_slug("mistudio").reference(FolderSource(native), ".", {})
    x = pasted["x"].double().numpy()
    acts = forward.encode(x, lambda count: None)
    assert np.allclose(pasted["acts"].numpy(), acts, atol=1e-4)
    assert torch.count_nonzero(pasted["acts"]) == 6 * len(x)
    assert np.allclose(
        pasted["output"].numpy(), forward.decode(acts, x, lambda count: None), atol=1e-4
    )
