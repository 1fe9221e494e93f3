"""dictionary_learning: every class, as its own forward computes it, and what is none of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saes.converter import convert, inspect, load
from saes.errors import BadFact, BrokenFile, NeedsFacts, SaeError, UnsupportedArchitecture
from tests.formats.cuts import assert_cut_is_broken
from tests.formats.dictionaries import (
    COUNT,
    D_IN,
    D_SAE,
    STATES,
    WHERE,
    K,
    assert_is,
    config,
    each_class,
    some,
    write,
)


@each_class
def test_every_class_computes_what_the_library_computes(name: str, tmp_path: Path) -> None:
    assert_is(name, STATES[name], write(tmp_path / "in", name))


@each_class
def test_every_class_tells_its_facts(name: str, tmp_path: Path) -> None:
    info = inspect(write(tmp_path, name), WHERE)
    architecture = {
        "AutoEncoder": "standard",
        "AutoEncoderNew": "standard",
        "GatedAutoEncoder": "gated",
        "AutoEncoderTopK": "topk",
    }.get(name, "jumprelu")
    assert info.get("architecture") == architecture
    assert info.get("apply_b_dec_to_input") == (
        name not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    )
    assert info.get("k") == (K if "TopK" in name else None)
    assert (info.get("d_in"), info.get("d_sae"), info.get("d_out")) == (D_IN, D_SAE, D_IN)
    assert (info.get("dtype"), info.get("normalize_activations")) == ("float32", "none")
    assert (info.get("model_name"), info.get("context_size")) == ("pythia-70m-deduped", 128)
    assert not info.missing
    assert list(info.files) == [f"{WHERE}/ae.pt", f"{WHERE}/config.json"]


@each_class
def test_square_saes_are_turned_by_their_class_alone(name: str, tmp_path: Path) -> None:
    square = {key: it[..., :D_IN] if it.ndim else it for key, it in STATES[name].items()}
    square = {key: it[:D_IN] if it.ndim else it for key, it in square.items()}
    square["group_sizes"] = torch.tensor([D_IN])
    kept = {key: square[key].clone() for key in STATES[name]}
    told = config(name, dict_size=D_IN)
    assert_is(name, kept, write(tmp_path / "in", name, kept, told))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_stay_what_they_are(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {key: it.to(dtype) for key, it in STATES["AutoEncoder"].items()}
    info = inspect(write(tmp_path, "AutoEncoder", state), WHERE)
    assert info.get("dtype") == str(dtype).removeprefix("torch.")
    weight = load(tmp_path, WHERE).tensors["W_enc"].all()
    assert np.array_equal(weight, state["encoder.weight"].double().numpy().T)


def test_april_update_files_announced_as_autoencoder_are_told_by_decoder_bias(
    tmp_path: Path,
) -> None:
    state = STATES["AutoEncoderNew"]
    assert_is("AutoEncoderNew", state, write(tmp_path / "in", "AutoEncoder", state))


def test_a_threshold_never_estimated_means_plain_relu(tmp_path: Path) -> None:
    state = {**STATES["BatchTopKSAE"], "threshold": torch.tensor(-1.0)}
    root = write(tmp_path / "in", "BatchTopKSAE", state)
    assert (load(root, WHERE).tensors["threshold"].all() == -1).all()
    assert_is("AutoEncoder", {**state, "bias": state["b_dec"]}, root)


@pytest.mark.parametrize("told", ["BatchTopkSAE", "TopKSAE", "AutoEncoderTopk", "IdentityDict"])
def test_an_unknown_class_never_becomes_a_plain_relu(told: str, tmp_path: Path) -> None:
    for name in ("AutoEncoder", "AutoEncoderTopK", "JumpReluAutoEncoder"):
        write(tmp_path, name, told=config(told))
        with pytest.raises(UnsupportedArchitecture, match=told):
            inspect(tmp_path, WHERE)


def test_neither_an_unknown_trainer_nor_a_k_becomes_a_plain_relu(tmp_path: Path) -> None:
    sizes = {"activation_dim": D_IN, "dict_size": D_SAE}
    for told in ({"trainer_class": "MyTopKTrainer"}, {"k": 5}):
        for name in ("AutoEncoder", "AutoEncoderNew"):
            write(tmp_path, name, told={"trainer": {**sizes, **told}})
            with pytest.raises(UnsupportedArchitecture):
                inspect(tmp_path, WHERE)


@pytest.mark.parametrize("name", ["GatedAutoEncoder", "MatryoshkaBatchTopKSAE"])
def test_an_unknown_class_is_read_where_the_tensors_leave_no_doubt(
    name: str, tmp_path: Path
) -> None:
    assert_is(name, STATES[name], write(tmp_path / "in", name, told=config("MyOwn")))


@each_class
def test_a_class_that_contradicts_its_tensors_is_refused(name: str, tmp_path: Path) -> None:
    for told in STATES:
        same_tensors = {name, told} <= {"AutoEncoderTopK", "BatchTopKSAE"}
        if told == name or same_tensors or (name, told) == ("AutoEncoderNew", "AutoEncoder"):
            continue
        with pytest.raises(BrokenFile, match=told):
            inspect(write(tmp_path, name, told=config(told)), WHERE)


@pytest.mark.parametrize("name", ["AutoEncoderTopK", "BatchTopKSAE"])
def test_two_classes_with_the_same_tensors_are_asked_for(name: str, tmp_path: Path) -> None:
    root = write(tmp_path / "in", name, told={"trainer": {"activation_dim": D_IN, "dict_size": 64}})
    info = inspect(root, WHERE)
    assert [(it.name, sorted(it.readings)) for it in info.missing] == [
        ("architecture", ["jumprelu", "topk"])
    ]
    with pytest.raises(NeedsFacts):
        load(root, WHERE)
    stated = "topk" if name == "AutoEncoderTopK" else "jumprelu"
    assert_is(name, STATES[name], root, architecture=stated)


@pytest.mark.parametrize(
    ("trainer", "name"),
    [
        ("StandardTrainer", "AutoEncoder"),
        ("PAnnealTrainer", "AutoEncoder"),
        ("GatedSAETrainer", "GatedAutoEncoder"),
        ("TrainerTopK", "AutoEncoderTopK"),
        ("TrainerBatchTopK", "BatchTopKSAE"),
        ("JumpReluTrainer", "JumpReluAutoEncoder"),
    ],
)
def test_old_configurations_tell_the_trainer_alone(trainer: str, name: str, tmp_path: Path) -> None:
    told = config(name, trainer_class=trainer)
    del told["trainer"]["dict_class"]
    assert_is(name, STATES[name], write(tmp_path / "in", name, told=told))


def test_batch_topk_from_before_thresholds_asks_how_it_is_to_be_used(tmp_path: Path) -> None:
    state = {key: it for key, it in STATES["BatchTopKSAE"].items() if key != "threshold"}
    root = write(tmp_path / "in", "BatchTopKSAE", state)
    assert [it.name for it in inspect(root, WHERE).missing] == ["architecture"]
    assert_is("AutoEncoderTopK", state, root, architecture="topk")


def test_topk_from_before_buffers_takes_k_from_the_configuration(tmp_path: Path) -> None:
    state = {key: it for key, it in STATES["AutoEncoderTopK"].items() if it.ndim}
    root = write(tmp_path / "in", "AutoEncoderTopK", state)
    assert_is("AutoEncoderTopK", {**state, "k": COUNT}, root)
    write(root, "AutoEncoderTopK", state, config("AutoEncoderTopK", k=None))
    assert [it.name for it in inspect(root, WHERE).missing] == ["k"]
    assert inspect(root, WHERE, given={"k": 3}).get("k") == 3


def test_two_different_k_are_refused_but_in_a_snapshot_the_files_own_counts(
    tmp_path: Path,
) -> None:
    told = config("AutoEncoderTopK", k=3)
    with pytest.raises(BrokenFile, match="k is 3"):
        inspect(write(tmp_path, "AutoEncoderTopK", told=told), WHERE)
    where = "resid_post_layer_3_checkpoints/trainer_0_step_100"
    write(tmp_path, "AutoEncoderTopK", told=told, where=where)
    assert inspect(tmp_path, where).get("k") == K


INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@pytest.mark.parametrize("name", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_a_whole_threshold_counts_as_a_number(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    state = {**STATES[name], "threshold": torch.tensor(2, dtype=dtype), "k": COUNT.to(dtype)}
    assert_is(name, state, write(tmp_path / "in", name, state))
    threshold = load(tmp_path / "in", WHERE).tensors["threshold"]
    assert (threshold.dtype, set(threshold.all())) == ("F32", {2.0})


@each_class
def test_weights_that_are_no_floats_are_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    for key, tensor in STATES[name].items():
        if tensor.ndim == 0 or key == "group_sizes":
            continue
        for dtype in (torch.int8, torch.bool, torch.float8_e4m3fn):
            write(tmp_path, name, {**STATES[name], key: tensor.to(dtype)})
            with pytest.raises(UnsupportedArchitecture, match="is stored as"):
                convert(tmp_path, tmp_path / "out", "mistudio", WHERE)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("AutoEncoder", {"k": 3}),
        ("BatchTopKSAE", {"k": 3}),
        ("GatedAutoEncoder", {"generation": 2}),
        ("JumpReluAutoEncoder", {"norm_scaling_factor": 2}),
        ("AutoEncoderTopK", {"orientation": "d_in,d_sae"}),
    ],
)
def test_a_fact_that_its_class_has_no_use_for_is_refused(
    name: str, given: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadFact, match=next(iter(given))):
        inspect(write(tmp_path, name), WHERE, given=given)


def test_null_in_the_configuration_is_as_good_as_nothing(tmp_path: Path) -> None:
    flat = {**config("AutoEncoder", k=None)["trainer"], "trainer": None, "buffer": None}
    info = inspect(write(tmp_path, "AutoEncoder", told=flat), WHERE)
    assert (info.get("architecture"), info.get("layer")) == ("standard", 3)
    unnamed = config(None, k=None)
    assert inspect(write(tmp_path, "AutoEncoder", told=unnamed), WHERE).get("k") is None


@each_class
def test_a_missing_tensor_is_broken_and_named(name: str, tmp_path: Path) -> None:
    needed = [key for key in STATES[name] if key not in ("k", "threshold", "group_sizes")]
    for missing in needed:
        state = {key: it for key, it in STATES[name].items() if key != missing}
        with pytest.raises(SaeError) as caught:
            inspect(write(tmp_path, name, state), WHERE)
        assert caught.value.code in ("broken_file", "unsupported_architecture"), missing


@each_class
def test_an_unknown_tensor_is_refused_by_name(name: str, tmp_path: Path) -> None:
    state = {**STATES[name], "stranger": some(3)}
    with pytest.raises(BrokenFile, match="stranger"):
        inspect(write(tmp_path, name, state), WHERE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_dim", 17), ("dict_size", 63), ("activation_dim", "16"), ("layer", -1),
        ("layer", [3]), ("k", 0), ("k", 1e99), ("k", True), ("dict_class", 7), ("lm_name", ["x"]),
        ("submodule_name", {}), ("lm_name", "a\nb"), ("k", 65),
    ],
)  # fmt: skip
def test_hostile_values_of_the_configuration_are_refused(
    key: str, value: Any, tmp_path: Path
) -> None:
    state = {name: it for name, it in STATES["AutoEncoderTopK"].items() if it.ndim}
    write(tmp_path, "AutoEncoderTopK", state, config("AutoEncoderTopK", **{key: value}))
    with pytest.raises(BrokenFile, match=r"config\.json"):
        inspect(tmp_path, WHERE)


@pytest.mark.parametrize("k", [torch.tensor(0), torch.tensor(65), torch.tensor(2.5), some(2)])
def test_a_stored_k_that_counts_nothing_is_broken(k: Tensor, tmp_path: Path) -> None:
    state, told = {**STATES["AutoEncoderTopK"], "k": k}, config("AutoEncoderTopK", k=None)
    with pytest.raises(BrokenFile):
        inspect(write(tmp_path, "AutoEncoderTopK", state, told), WHERE)


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    weights = write(tmp_path, "BatchTopKSAE") / WHERE / "ae.pt"
    assert_cut_is_broken(weights, lambda: inspect(tmp_path, WHERE))
