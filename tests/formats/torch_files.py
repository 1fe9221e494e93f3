"""PyTorch files made up on the spot, and what their own libraries compute with them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saes.converter import convert, load
from saes.formats import FolderSource, by_slug
from saes.reference import no_tick
from tests.formats.test_samples import neutral

Tensors = dict[str, torch.Tensor]
Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def some(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator).to(dtype)


def linear(d_in: int = 16, d_sae: int = 64, dtype: torch.dtype = torch.float32) -> Tensors:
    """W_enc and W_dec as nn.Linear keeps them, [out, in]."""
    return {
        "encoder": some(d_sae, d_in, seed=1, dtype=dtype),
        "b_enc": some(d_sae, seed=2, dtype=dtype) - 1,
        "decoder": some(d_in, d_sae, seed=3, dtype=dtype),
        "b_dec": some(d_in, seed=4, dtype=dtype),
    }


def renamed(made: Tensors, *names: str) -> Tensors:
    """encoder, b_enc, decoder, b_dec under other names."""
    return dict(zip(names, made.values(), strict=True))


def double(made: Tensors) -> Tensors:
    return {name: tensor.double() for name, tensor in made.items()}


def linear_forward(made: Tensors, k: int | None = None, centre: bool = False) -> Forward:
    """x @ encoder.T + b_enc, activation, @ decoder.T + b_dec."""
    it = double(made)

    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        before = (x - it["b_dec"] * centre) @ it["encoder"].T + it["b_enc"]
        acts = torch.relu(before)
        if k is not None:
            top = torch.topk(before, k, dim=-1)
            acts = torch.zeros_like(before).scatter(-1, top.indices, torch.relu(top.values))
        return acts, acts @ it["decoder"].T + it["b_dec"]

    return run


def save(path: Path, tree: Mapping[str, Any], before: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(before)
        torch.save(tree, file)
    return path


def assert_computes(
    forward: Forward,
    root: Path,
    where: str,
    target: Path,
    repo_id: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Reference, neutral form and certified conversion give what the library's forward gives."""
    done = convert(root, target, to="mistudio", where=where, repo_id=repo_id, facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed
    source = FolderSource(root, repo_id)
    family = by_slug(done.info.format)
    sides = [
        family.reference(source, done.info.where, facts or {}),
        neutral(load(root, where, repo_id, facts)),
        neutral(load(target)),
    ]
    x = some(32, done.info.get("d_in"), seed=9).double()
    acts, recon = forward(x)
    assert (acts != 0).any()
    for side in sides:
        found = side.encode(x.numpy().copy(), no_tick)
        assert np.allclose(found, acts.numpy(), rtol=1e-5, atol=1e-5)
        rebuilt = side.decode(found, x.numpy(), no_tick)
        assert np.allclose(rebuilt, recon.numpy(), rtol=1e-5, atol=1e-4)
