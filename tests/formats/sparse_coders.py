"""SAEs of sparsify made up on the spot, and what SparseCoder computes with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from saes.converter import convert
from saes.formats import FolderSource, by_slug

D_IN, D_SAE, K = 16, 64, 8
WHERE = "run/layers.3"
State = dict[str, Tensor]
CFG = {
    "activation": "topk",
    "expansion_factor": 4,
    "normalize_decoder": True,
    "num_latents": 0,
    "k": K,
    "multi_topk": False,
    "skip_connection": False,
    "transcode": False,
    "d_in": D_IN,
}
RUN = {"sae": {"k": K}, "model": "EleutherAI/pythia-160m", "dataset": "me/pile", "ctx_len": 2048}


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def state(**others: Tensor) -> State:
    return {
        "encoder.weight": some(D_SAE, D_IN),
        "encoder.bias": some(D_SAE) / 4,
        "W_dec": some(D_SAE, D_IN, seed=1),
        "b_dec": some(D_IN),
        **others,
    }


def truth(s: State, cfg: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """SparseCoder.encode and .decode; `signed` as it was in the summer of 2024."""
    before = x if cfg.get("transcode") else x - s["b_dec"]
    latents = before @ s["encoder.weight"].T + s["encoder.bias"]
    if cfg.get("signed"):
        places = latents.abs().topk(cfg["k"], dim=-1).indices
    else:
        latents = torch.nn.functional.relu(latents)
        places = latents.topk(cfg["k"], dim=-1).indices
    acts = torch.zeros_like(latents).scatter_(-1, places, latents.gather(-1, places))
    out = acts @ s["W_dec"] + s["b_dec"]
    return acts, out + x @ s["W_skip"].T if "W_skip" in s else out


def write(
    root: Path, s: State | None = None, where: str = WHERE, run: Any = None, **cfg: Any
) -> Path:
    (root / where).mkdir(parents=True, exist_ok=True)
    save_file(state() if s is None else s, root / where / "sae.safetensors")
    told = {key: value for key, value in {**CFG, **cfg}.items() if value is not None}
    (root / where / "cfg.json").write_text(json.dumps(told))
    if run is not None:
        (root / where).parent.joinpath("config.json").write_text(json.dumps(run))
    return root


def assert_is(s: State, root: Path, **cfg: Any) -> None:
    x = some(40, D_IN, seed=9).double()
    acts, recon = truth({key: it.double() for key, it in s.items()}, {**CFG, **cfg}, x)
    reference = by_slug("sparsify").reference(FolderSource(root), WHERE, {})
    found = reference.encode(x.numpy(), lambda count: None)
    assert np.allclose(found, acts.numpy())
    assert np.allclose(reference.decode(found, x.numpy(), lambda count: None), recon.numpy())
    done = convert(root, root.parent / "out", "mistudio", WHERE)
    assert done.certificate is not None
    assert done.certificate.passed


SKIP = {"W_skip": some(D_IN, D_IN, seed=2)}
VARIANTS: dict[str, tuple[State, dict[str, Any], str, bool]] = {
    "autoencoder": (state(), {}, "topk", True),
    "transcoder": (state(), {"transcode": True}, "topk_transcoder", False),
    "skip transcoder": (
        state(**SKIP), {"transcode": True, "skip_connection": True}, "topk_skip_transcoder", False,
    ),
    "skip, centred": (state(**SKIP), {"skip_connection": True}, "topk_skip_transcoder", False),
    "multi": (state(), {"multi_topk": True}, "topk", True),
    "signed": (
        state(),
        {"signed": True, "activation": None, "transcode": None, "skip_connection": None},
        "abstopk", True,
    ),
}  # fmt: skip
