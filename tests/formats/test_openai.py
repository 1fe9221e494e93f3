"""OpenAI's GPT-2 SAEs: the activation told inside the file, and what it implies."""

from pathlib import Path
from typing import Any

import pytest
import torch

from saes.converter import convert, inspect, load
from saes.errors import BadFact, BrokenFile, CannotRepresent, UnsupportedArchitecture
from saes.formats import find_saes
from tests.formats.cuts import assert_cut_is_broken
from tests.formats.torch_files import (
    Forward,
    Tensors,
    assert_computes,
    double,
    linear,
    renamed,
    save,
    some,
)

WHERE = "gpt2-small/resid_delta_mlp_v5_32k/autoencoders/8.pt"
NAMES = ("encoder.weight", "latent_bias", "decoder.weight", "pre_bias")


def top(k: Any, after: str = "ReLU") -> dict[str, Any]:
    return {"activation": "TopK", "activation_state_dict": {"k": k, "postact_fn": after}}


TOPK = top(7)


def state(d_in: int = 16, dtype: torch.dtype = torch.float32, **more: Any) -> dict[str, Any]:
    made = renamed(linear(d_in, 64, dtype), *NAMES)
    return {**made, "stats_last_nonzero": torch.zeros(64, dtype=torch.int64), **more}


def forward(made: Tensors, k: int | None = None) -> Forward:
    """The library's own: layer norm with the unbiased deviation where it is a TopK."""
    it = double(made)

    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, spread = torch.zeros(1), torch.ones(1)
        if k is not None:
            mean = x.mean(dim=-1, keepdim=True)
            x = x - mean
            spread = x.std(dim=-1, keepdim=True)
            x = x / (spread + 1e-5)
        before = (x - it["pre_bias"]) @ it["encoder.weight"].T + it["latent_bias"]
        acts = torch.relu(before)
        if k is not None:
            top = torch.topk(before, k, dim=-1)
            acts = torch.zeros_like(before).scatter(-1, top.indices, torch.relu(top.values))
        out = acts @ it["decoder.weight"].T + it["pre_bias"]
        return acts, out * spread + mean

    return run


def weights(tree: dict[str, Any]) -> Tensors:
    return {name: tree[name] for name in NAMES}


@pytest.mark.parametrize("d_in", [16, 64], ids=["wide", "square"])
def test_topk_normalises_layers_and_relu_does_not(d_in: int, tmp_path: Path) -> None:
    topk, plain = state(d_in, **TOPK), state(d_in)
    save(tmp_path / "in" / WHERE, topk)
    assert_computes(forward(weights(topk), 7), tmp_path / "in", WHERE, tmp_path / "one")
    for activation in ({}, {"activation": "ReLU", "activation_state_dict": {}}):
        save(tmp_path / "in" / WHERE, {**plain, **activation})
        target = tmp_path / f"other{len(activation)}"
        assert_computes(forward(weights(plain)), tmp_path / "in", WHERE, target)


def test_a_tied_decoder_is_the_encoder(tmp_path: Path) -> None:
    tree = state()
    encoder = tree["encoder.weight"]
    truth = {**weights(tree), "decoder.weight": encoder.T}
    del tree["decoder.weight"]
    save(tmp_path / "in" / WHERE, {**tree, "decoder.linear.weight": encoder})
    assert_computes(forward(truth), tmp_path / "in", WHERE, tmp_path / "out")
    tensors = load(tmp_path / "in").tensors
    assert (tensors["W_dec"].all() == tensors["W_enc"].all().T).all()


def test_a_topk_that_keeps_negative_values_is_told_and_never_converted(tmp_path: Path) -> None:
    save(tmp_path / "in" / WHERE, state(**top(7, "Identity")))
    info = inspect(tmp_path / "in")
    assert (info.format, info.get("architecture"), info.get("k")) == ("openai", "signed_topk", 7)
    assert info.get("d_sae") == 64
    with pytest.raises(CannotRepresent):
        convert(tmp_path / "in", tmp_path / "out", to="mistudio")
    with pytest.raises(UnsupportedArchitecture):
        load(tmp_path / "in")


def test_buffers_of_training_are_left_out(tmp_path: Path) -> None:
    buffers = ("latents_activation_frequency", "latents_mean_square")
    save(tmp_path / WHERE, {**state(), **{name: some(64) for name in buffers}})
    assert load(tmp_path).tensors.keys() == {"W_enc", "b_enc", "W_dec", "b_dec"}


def test_names_tell_layer_site_and_model(tmp_path: Path) -> None:
    save(tmp_path / WHERE, state())
    info = inspect(tmp_path)
    assert (info.get("layer"), info.get("hook_name")) == (8, "blocks.8.hook_mlp_out")
    assert (info.get("hook_type"), info.get("model_name")) == ("mlp", "gpt2-small")


def test_a_renamed_file_is_recognised_by_what_it_holds(tmp_path: Path) -> None:
    save(tmp_path / "anything.pt", state(**TOPK))
    info = inspect(tmp_path)
    assert (info.format, info.get("k"), info.get("layer")) == ("openai", 7, None)
    assert not info.missing


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_every_dtype_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    tree = state(dtype=dtype)
    save(tmp_path / WHERE, tree)
    info = inspect(tmp_path)
    assert info.get("dtype") == str(dtype).removeprefix("torch.")
    assert (load(tmp_path).tensors["b_dec"].all() == tree["pre_bias"].double().numpy()).all()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"surprise": some(3)}, BrokenFile),
        ({"surprise": 5}, BrokenFile),
        ({"pre_bias": some(17)}, BrokenFile),
        ({"activation": "Identity"}, UnsupportedArchitecture),
        ({"activation": 7}, UnsupportedArchitecture),
        ({"activation": "TopK"}, BrokenFile),
        (top(0), BrokenFile),
        (top(65), BrokenFile),
        (top(True), BrokenFile),
        (top(7, "Tanh"), BrokenFile),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(
    change: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    save(tmp_path / WHERE, state(**change))
    with pytest.raises(error, match="8.pt"):
        inspect(tmp_path)


def test_a_user_may_add_to_the_file_but_not_contradict_it(tmp_path: Path) -> None:
    save(tmp_path / WHERE, state(**TOPK))
    assert inspect(tmp_path, given={"k": 5}).get("k") == 5
    for given in ({"architecture": "standard"}, {"k": 65}):
        with pytest.raises(BadFact):
            inspect(tmp_path, given=given)


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    path = save(tmp_path / WHERE, state(**TOPK))
    assert_cut_is_broken(path, lambda: inspect(tmp_path, WHERE))


def test_each_layer_of_each_site_is_found_by_name() -> None:
    names = [f"resid_post_mlp_v5_32k/autoencoders/{layer}.pt" for layer in range(12)]
    found = find_saes([*names, "README.md", "optimizer.pt", "resid_post_mlp_v5_32k/state.pt"])
    assert [(it.where, it.format) for it in found] == [(name, "openai") for name in sorted(names)]
