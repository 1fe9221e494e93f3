"""Writing sparsify: what SparseCoder loads, and what it cannot hold."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from saes.converter import convert, inspect, load
from saes.errors import CannotRepresent
from saes.formats import FolderSource, by_slug
from saes.formats.base import Fact, Origin
from saes.progress import Silent
from saes.tensors import Held
from tests.fixtures import write_saelens
from tests.formats.sparse_coders import (
    CFG,
    D_IN,
    D_SAE,
    RUN,
    VARIANTS,
    WHERE,
    some,
    state,
    truth,
    write,
)


@pytest.mark.parametrize("variant", ["autoencoder", "transcoder", "skip transcoder"])
def test_what_is_written_comes_back_as_itself(variant: str, tmp_path: Path) -> None:
    s, cfg, _, _ = VARIANTS[variant]
    root = write(tmp_path / "in", s, run=RUN, **cfg)
    done = convert(root, tmp_path / "out", "sparsify", WHERE)
    assert done.certificate is not None
    assert done.certificate.passed
    written = load_file(tmp_path / "out" / "sae.safetensors")
    assert written.keys() == s.keys()
    assert all(torch.equal(written[key], s[key]) for key in s)
    told = json.loads((tmp_path / "out" / "cfg.json").read_text())
    kept = {key: told[key] for key in ("k", "d_in", "transcode", "skip_connection", "activation")}
    assert kept == {key: {**CFG, **cfg}[key] for key in kept}
    assert (told["num_latents"], told.keys()) == (D_SAE, CFG.keys())
    before, after = inspect(root, WHERE), inspect(tmp_path / "out")
    assert {it: fact.value for it, fact in before.facts.items()} == {
        it: fact.value for it, fact in after.facts.items()
    }


def test_saelens_topk_becomes_a_sparse_coder(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", "topk")
    assert convert(source, tmp_path / "out", "sparsify").certificate
    assert not (tmp_path / "out" / "config.json").exists()
    s = {key: it.double() for key, it in load_file(tmp_path / "out" / "sae.safetensors").items()}
    x = some(20, D_IN).double()
    acts, _ = truth(s, {**CFG, "k": 5}, x)
    saelens = by_slug("saelens").reference(FolderSource(source), ".", {})
    assert np.allclose(saelens.encode(x.numpy(), lambda count: None), acts.numpy())


@pytest.mark.parametrize(
    ("transcode", "field", "value"),
    [
        (False, "apply_b_dec_to_input", False),
        (True, "apply_b_dec_to_input", True),
        (False, "normalize_activations", "layer_norm"),
        (False, "reshape_activations", "hook_z"),
        (False, "rescale_acts_by_decoder_norm", True),
        (True, "d_out", 17),
    ],
)
def test_what_sparsify_cannot_hold_is_refused_by_its_field(
    transcode: bool, field: str, value: Any, tmp_path: Path
) -> None:
    sae = load(write(tmp_path / "in", transcode=transcode), WHERE)
    facts = {**sae.info.facts, field: Fact(value, Origin.FILE)}
    with pytest.raises(CannotRepresent, match=field):
        by_slug("sparsify").save(  # type: ignore[attr-defined]
            replace(sae, info=replace(sae.info, facts=facts)), tmp_path, Silent()
        )


def test_tensors_of_several_dtypes_are_written_in_the_one_that_loses_nothing(
    tmp_path: Path,
) -> None:
    sae = load(write(tmp_path / "in"), WHERE)
    mixed: dict[str, Any] = {**sae.tensors, "W_dec": Held(sae.tensors["W_dec"].all(), "BF16")}
    by_slug("sparsify").save(  # type: ignore[attr-defined]
        replace(sae, tensors=mixed), tmp_path, Silent()
    )
    written = load_file(tmp_path / "sae.safetensors")
    assert {it.dtype for it in written.values()} == {torch.float32}
    assert torch.equal(written["W_dec"], state()["W_dec"].bfloat16().float())
    assert torch.equal(written["encoder.bias"], state()["encoder.bias"])


@pytest.mark.parametrize("model", ["EleutherAI/pythia-160m", "gpt2-small"])
def test_the_model_comes_back_under_its_whole_name(model: str, tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", "topk")
    facts = {"model_name": model, "hook_name": "hook_embed"}
    convert(source, tmp_path / "out", "sparsify", facts=facts)
    info = inspect(tmp_path / "out")
    assert (info.get("model_name"), info.get("hook_name")) == (model, None)
