"""SAEs of dictionary_learning made up on the spot, and what the library computes with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saes.converter import convert
from saes.formats import FolderSource, by_slug

D_IN, D_SAE, K = 16, 64, 5
WHERE = "resid_post_layer_3/trainer_0"
State = dict[str, Tensor]
relu = torch.nn.functional.relu


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(hash(shape) % 997 + seed))


def linear(**others: Tensor) -> State:
    return {
        "encoder.weight": some(D_SAE, D_IN),
        "encoder.bias": some(D_SAE) - 1,
        "decoder.weight": some(D_IN, D_SAE),
        **others,
    }


def input_first(**others: Tensor) -> State:
    return {
        "W_enc": some(D_IN, D_SAE),
        "b_enc": some(D_SAE) - 1,
        "W_dec": some(D_SAE, D_IN),
        "b_dec": some(D_IN),
        **others,
    }


def gated() -> State:
    return {
        "decoder_bias": some(D_IN),
        "r_mag": some(D_SAE) / 4,
        "gate_bias": some(D_SAE, seed=1) - 1,
        "mag_bias": some(D_SAE, seed=2),
        "encoder.weight": some(D_SAE, D_IN),
        "decoder.weight": some(D_IN, D_SAE),
    }


COUNT, ABOVE = torch.tensor(K, dtype=torch.int), torch.tensor(2.5)
GROUPS = torch.tensor([16, 48])
STATES: dict[str, State] = {
    "AutoEncoder": linear(bias=some(D_IN)),
    "AutoEncoderNew": linear(**{"decoder.bias": some(D_IN)}),
    "GatedAutoEncoder": gated(),
    "AutoEncoderTopK": linear(b_dec=some(D_IN), k=COUNT, threshold=ABOVE),
    "BatchTopKSAE": linear(b_dec=some(D_IN), k=COUNT, threshold=ABOVE),
    "MatryoshkaBatchTopKSAE": input_first(k=COUNT, threshold=ABOVE, group_sizes=GROUPS),
    "JumpReluAutoEncoder": input_first(threshold=some(D_SAE, seed=3).abs()),
}
each_class = pytest.mark.parametrize("name", STATES)


def truth(name: str, s: State, x: Tensor) -> tuple[Tensor, Tensor]:
    """The library's own forward."""
    if name == "AutoEncoderNew":
        acts = relu(x @ s["encoder.weight"].T + s["encoder.bias"])
        return acts, acts @ s["decoder.weight"].T + s["decoder.bias"]
    if name == "JumpReluAutoEncoder":
        before = x @ s["W_enc"] + s["b_enc"]
        acts = relu(before * (before > s["threshold"]))
        return acts, acts @ s["W_dec"] + s["b_dec"]
    if name == "MatryoshkaBatchTopKSAE":
        after = relu((x - s["b_dec"]) @ s["W_enc"] + s["b_enc"])
        acts = after * (after > s["threshold"])
        return acts, acts @ s["W_dec"] + s["b_dec"]
    b_dec = s.get("b_dec", s.get("bias", s.get("decoder_bias", torch.zeros(0))))
    product = (x - b_dec) @ s["encoder.weight"].T
    acts = ACTIVATIONS[name](product, s)
    return acts, acts @ s["decoder.weight"].T + b_dec


def largest(product: Tensor, s: State) -> Tensor:
    after = relu(product + s["encoder.bias"])
    top = after.topk(int(s["k"]), dim=-1)
    return torch.zeros_like(after).scatter_(-1, top.indices, top.values)


def above(product: Tensor, s: State) -> Tensor:
    after = relu(product + s["encoder.bias"])
    return after * (after > s["threshold"])


def gates(product: Tensor, s: State) -> Tensor:
    gate = (product + s["gate_bias"] > 0).to(product.dtype)
    return gate * relu(s["r_mag"].exp() * product + s["mag_bias"])


ACTIVATIONS: dict[str, Callable[[Tensor, State], Tensor]] = {
    "AutoEncoder": lambda product, s: relu(product + s["encoder.bias"]),
    "GatedAutoEncoder": gates,
    "AutoEncoderTopK": largest,
    "BatchTopKSAE": above,
}
# What scale_biases multiplies, by class.
SCALED = {
    "AutoEncoder": ("encoder.bias", "bias"),
    "GatedAutoEncoder": ("decoder_bias", "mag_bias", "gate_bias"),
    "AutoEncoderTopK": ("encoder.bias", "b_dec", "threshold"),
    "BatchTopKSAE": ("encoder.bias", "b_dec", "threshold"),
    "MatryoshkaBatchTopKSAE": ("b_enc", "b_dec", "threshold"),
    "JumpReluAutoEncoder": ("b_enc", "b_dec", "threshold"),
}


def config(name: str | None, **trainer: Any) -> dict[str, Any]:
    told = {
        "dict_class": name,
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        "layer": 3,
        "lm_name": "EleutherAI/pythia-70m-deduped",
        "submodule_name": "resid_post_layer_3",
        **({"k": K} if name and "TopK" in name else {}),
        **trainer,
    }
    return {"trainer": told, "buffer": {"ctx_len": 128, "io": "out"}}


def write(
    root: Path, name: str, state: Any = None, told: Any = None, where: str = WHERE, file: str = ""
) -> Path:
    (root / where).mkdir(parents=True, exist_ok=True)
    torch.save(STATES[name] if state is None else state, root / where / (file or "ae.pt"))
    text = json.dumps(config(name) if told is None else told)
    (root / where / "config.json").write_text(text)
    return root


def assert_is(name: str, state: State, root: Path, where: str = WHERE, **facts: Any) -> None:
    """The tensors and the reference compute what the class computes."""
    x = some(40, D_IN, seed=9).double()
    acts, recon = truth(name, {key: it.double() for key, it in state.items()}, x)
    reference = by_slug("dictionary_learning").reference(FolderSource(root), where, facts)
    found = reference.encode(x.numpy(), lambda count: None)
    assert np.allclose(found, acts.numpy(), atol=1e-5)
    assert 0 < (found > 0).mean() < 0.6
    assert np.allclose(
        reference.decode(found, x.numpy(), lambda count: None), recon.numpy(), atol=1e-4
    )
    done = convert(root, root.parent / f"{root.name}-out", "mistudio", where, facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed


def backup(name: str, state: State, factor: Any) -> dict[str, Any]:
    weight = torch.nn.Parameter(some(3, 3))
    optimizer = torch.optim.Adam([weight])
    weight.grad = some(3, 3, seed=1)
    optimizer.step()
    return {
        "step": 100,
        "ae": state,
        "optimizer": optimizer.state_dict(),
        "config": config(name)["trainer"],
        "norm_factor": factor,
    }


def scaled(name: str, factor: float) -> State:
    """As the library's scale_biases leaves it."""
    state = {key: it.clone() for key, it in STATES[name].items()}
    for key in SCALED[name]:
        state[key] *= factor
    return state
