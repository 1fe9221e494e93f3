"""Apollo's end-to-end SAEs: published weights, checkpoints of training, decoders of any length."""

from pathlib import Path

import numpy as np
import pytest
import torch

from saes.converter import inspect, load
from saes.errors import BadFact, BrokenFile
from saes.formats import find_saes
from tests.formats.cuts import assert_cut_is_broken
from tests.formats.torch_files import (
    Tensors,
    assert_computes,
    double,
    linear,
    linear_forward,
    renamed,
    save,
    some,
)

FOUR = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")


def write_apollo(path: Path, made: Tensors, text: str = "") -> Path:
    save(path, renamed(made, *FOUR))
    said = text or (
        "tlens_model_name: gpt2-small\nsaes:\n  sae_positions:\n  - blocks.6.hook_resid_pre\n"
        "train_data: {n_ctx: 1024, dataset_name: owt}\nlr: 5e-4\n"
    )
    path.with_suffix(".yaml").write_text(said)
    return path


def unit(made: Tensors) -> Tensors:
    decoder = torch.nn.functional.normalize(made["decoder"].double(), dim=0)
    return {**made, "decoder": decoder.to(made["decoder"].dtype)}


def checkpoint(made: Tensors, hook: str) -> Tensors:
    stem = hook.replace(".", "-")
    names = ("encoder.0.weight", "encoder.0.bias", "decoder.weight", "decoder.bias")
    return renamed(made, *(f"{stem}.{it}" for it in names))


@pytest.mark.parametrize("d_in", [16, 64], ids=["wide", "square"])
def test_apollos_published_weights_are_only_turned(d_in: int, tmp_path: Path) -> None:
    made = unit(linear(d_in))
    write_apollo(tmp_path / "in" / "run.pt", made)
    assert_computes(linear_forward(made), tmp_path / "in", "run.pt", tmp_path / "out")
    decoder = load(tmp_path / "in").tensors["W_dec"]
    assert np.array_equal(decoder.all(), made["decoder"].T.double())
    info = inspect(tmp_path / "in")
    assert (info.format, info.get("model_name")) == ("apollo", "gpt2-small")
    assert (info.get("hook_name"), info.get("layer")) == ("blocks.6.hook_resid_pre", 6)
    assert (info.get("context_size"), info.get("dataset_path")) == (1024, "owt")


def test_decoders_of_any_length_count_with_length_one(tmp_path: Path) -> None:
    made = linear()
    made["decoder"][:, 5] = 0
    write_apollo(tmp_path / "in" / "run.pt", made)
    assert_computes(linear_forward(unit(double(made))), tmp_path / "in", "run.pt", tmp_path / "out")


def test_a_checkpoint_of_one_hook_is_read(tmp_path: Path) -> None:
    made, hook = linear(), "blocks.2.hook_resid_post"
    save(tmp_path / "in" / "samples_400.pt", checkpoint(made, hook))
    where = "samples_400.pt"
    assert_computes(linear_forward(unit(double(made))), tmp_path / "in", where, tmp_path / "out")
    info = inspect(tmp_path / "in")
    assert (info.format, info.get("hook_name"), info.get("layer")) == ("apollo", hook, 2)


def test_a_checkpoint_of_two_hooks_asks_which(tmp_path: Path) -> None:
    one, other = linear(16), linear(8, 32)
    tree = checkpoint(one, "blocks.2.hook_resid_pre") | checkpoint(other, "blocks.4.hook_mlp_out")
    save(tmp_path / "in" / "x.pt", tree)
    (asked,) = inspect(tmp_path / "in").missing
    assert set(asked.readings) == {"blocks.2.hook_resid_pre", "blocks.4.hook_mlp_out"}
    facts = {"hook_name": "blocks.4.hook_mlp_out"}
    run = linear_forward(unit(double(other)))
    assert_computes(run, tmp_path / "in", "x.pt", tmp_path / "out", facts=facts)
    with pytest.raises(BadFact, match="blocks.9"):
        inspect(tmp_path / "in", given={"hook_name": "blocks.9.hook_mlp_out"})
    save(tmp_path / "in" / "x.pt", {**tree, "surprise": some(3)})
    with pytest.raises(BrokenFile, match="surprise"):
        inspect(tmp_path / "in")


def test_values_that_wandb_wrapped_are_unwrapped(tmp_path: Path) -> None:
    text = (
        "tlens_model_name: {value: gpt2-small, desc: null}\n"
        "saes: {value: {sae_positions: hook_resid_pre}}\n_wandb: {value: {t: {1: [2]}}}\n"
    )
    write_apollo(tmp_path / "run.pt", unit(linear()), text)
    info = inspect(tmp_path)
    assert (info.get("model_name"), info.get("hook_name")) == ("gpt2-small", None)


def test_what_training_leaves_beside_a_checkpoint_is_no_sae() -> None:
    names = ["run/samples_400.pt", "run/final_config.yaml", "run/optimizer_400.pt", "run/state.pt"]
    found = find_saes(names)
    assert [(it.where, it.format) for it in found] == [("run/samples_400.pt", "apollo")]


def test_a_yaml_of_someone_else_makes_no_apollo(tmp_path: Path) -> None:
    write_apollo(tmp_path / "run.pt", unit(linear()), "lr: 1\n")
    assert inspect(tmp_path).format == "bare"


@pytest.mark.parametrize(
    "text",
    ["tlens_model_name: [1]\nsaes: {}\n", "a: &x [*x]\n", "tlens_model_name: a\nsaes: [1]\n"],
)
def test_a_hostile_yaml_is_broken(text: str, tmp_path: Path) -> None:
    write_apollo(tmp_path / "run.pt", unit(linear()), text)
    with pytest.raises(BrokenFile, match="run.yaml"):
        inspect(tmp_path)


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    path = write_apollo(tmp_path / "run.pt", unit(linear()))
    assert_cut_is_broken(path, lambda: inspect(tmp_path))
