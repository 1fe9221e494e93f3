"""Goodfire, DeepSeek-R1, Qwen Scope, Connor and Rob's hook_z: names, sites, arithmetic."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saes.converter import convert, inspect, load
from saes.errors import BadFact, BrokenFile, NeedsFacts
from saes.formats import find_saes
from saes.formats.base import Origin
from tests.formats.cuts import assert_cut_is_broken
from tests.formats.torch_files import (
    Tensors,
    assert_computes,
    linear,
    linear_forward,
    renamed,
    save,
    some,
)

GOODFIRE = "Llama-3.1-8B-Instruct-SAE-l19.pth"
DEEPSEEK = "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"
QWEN, QWEN_REPO = "layer5.sae.pt", "Qwen/SAE-Res-Qwen3.5-27B-W80K-L0_7"
CONNOR = "gpt2-small_L3_Hcat_z_lr1.20e-03_v9"
FOUR = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
NAMES = {
    GOODFIRE: tuple(it.replace(".", "_linear.") for it in FOUR),
    DEEPSEEK: FOUR,
    QWEN: ("W_enc", "b_enc", "W_dec", "b_dec"),
}
each_linear = pytest.mark.parametrize("where", NAMES)


def repo_of(where: str) -> str | None:
    return QWEN_REPO if where == QWEN else None


@each_linear
@pytest.mark.parametrize("d_in", [16, 64], ids=["wide", "square"])
def test_linear_layers_are_turned_and_never_centred(where: str, d_in: int, tmp_path: Path) -> None:
    made = linear(d_in)
    save(tmp_path / "in" / where, renamed(made, *NAMES[where]))
    run = linear_forward(made, 7 if where == QWEN else None)
    assert_computes(run, tmp_path / "in", where, tmp_path / "out", repo_of(where))
    tensors = load(tmp_path / "in", where, repo_of(where)).tensors
    assert np.array_equal(tensors["W_enc"].all(), made["encoder"].T.double())
    assert np.array_equal(tensors["W_dec"].all(), made["decoder"].T.double())


@each_linear
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_weights_keep_their_bits(where: str, dtype: torch.dtype, tmp_path: Path) -> None:
    made = linear(dtype=dtype)
    save(tmp_path / where, renamed(made, *NAMES[where]))
    info = inspect(tmp_path, repo_id=repo_of(where))
    assert info.get("dtype") == str(dtype).removeprefix("torch.")
    decoder = load(tmp_path, repo_id=repo_of(where)).tensors["W_dec"]
    assert decoder.dtype == {torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    assert np.array_equal(decoder.all(), made["decoder"].T.double())


@each_linear
def test_an_unknown_tensor_is_refused_and_a_wrong_shape_too(where: str, tmp_path: Path) -> None:
    tree = renamed(linear(), *NAMES[where])
    save(tmp_path / where, {**tree, "surprise": some(3)})
    with pytest.raises(BrokenFile, match="surprise"):
        inspect(tmp_path, where, repo_of(where))
    save(tmp_path / where, {**tree, NAMES[where][1]: some(63)})
    with pytest.raises(BrokenFile, match="b_enc"):
        inspect(tmp_path, where, repo_of(where))


@each_linear
def test_a_file_cut_anywhere_is_broken(where: str, tmp_path: Path) -> None:
    path = save(tmp_path / where, renamed(linear(), *NAMES[where]))
    assert_cut_is_broken(path, lambda: inspect(tmp_path, where, repo_of(where)))


@each_linear
def test_what_a_file_tells_no_user_contradicts(where: str, tmp_path: Path) -> None:
    save(tmp_path / where, renamed(linear(), *NAMES[where]))
    with pytest.raises(BadFact, match="gated"):
        inspect(tmp_path, where, repo_of(where), {"architecture": "gated"})


# --- what names tell -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "repo", "slug", "model", "layer"),
    [
        (GOODFIRE, None, "goodfire", "meta-llama/Llama-3.1-8B-Instruct", 19),
        ("w.pt", "Goodfire/Llama-3.3-70B-Instruct-SAE-l50", "goodfire",
         "meta-llama/Llama-3.3-70B-Instruct", 50),
        (DEEPSEEK, None, "deepseek_r1", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 19),
        (QWEN, QWEN_REPO, "qwen_scope", "Qwen/Qwen3.5-27B", 5),
        ("layer0.sae.pt", "mirror/SAE-Res-Qwen3-30B-A3B-Base-W128K-L0_32", "qwen_scope",
         "Qwen/Qwen3-30B-A3B-Base", 0),
    ],
)  # fmt: skip
def test_names_tell_model_and_layer(
    where: str, repo: str | None, slug: str, model: str, layer: int, tmp_path: Path
) -> None:
    names = NAMES[{"goodfire": GOODFIRE, "deepseek_r1": DEEPSEEK}.get(slug, QWEN)]
    save(tmp_path / where, renamed(linear(), *names))
    info = inspect(tmp_path, where, repo)
    assert (info.format, info.get("model_name"), info.get("layer")) == (slug, model, layer)
    if where != "w.pt":
        assert info.get("hook_name") == f"blocks.{layer}.hook_resid_post"
    assert info.facts["model_name"].origin == Origin.PATH
    assert info.get("reshape_activations") == "none"
    assert not info.missing


def test_without_its_repository_qwens_k_is_asked_for(tmp_path: Path) -> None:
    made = linear()
    save(tmp_path / "in" / QWEN, renamed(made, *NAMES[QWEN]))
    assert [fact.name for fact in inspect(tmp_path / "in").missing] == ["k"]
    with pytest.raises(NeedsFacts, match="k"):
        convert(tmp_path / "in", tmp_path / "out")
    run = linear_forward(made, 9)
    assert_computes(run, tmp_path / "in", QWEN, tmp_path / "out", facts={"k": "9"})
    with pytest.raises(BadFact, match="65"):
        inspect(tmp_path / "in", given={"k": 65})


def test_more_features_firing_than_there_are_is_broken(tmp_path: Path) -> None:
    save(tmp_path / QWEN, renamed(linear(), *NAMES[QWEN]))
    with pytest.raises(BrokenFile, match="100"):
        inspect(tmp_path, repo_id="Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_100")


def test_four_tensors_under_another_name_are_nobodys(tmp_path: Path) -> None:
    save(tmp_path / "weights.pt", renamed(linear(), *FOUR))
    info = inspect(tmp_path)
    assert info.format == "bare"
    assert "apply_b_dec_to_input" in [fact.name for fact in info.missing]


def test_every_file_is_found_by_its_name_alone() -> None:
    found = {it.where: it.format for it in find_saes([GOODFIRE, DEEPSEEK, QWEN, "README.md"])}
    assert found == {GOODFIRE: "goodfire", DEEPSEEK: "deepseek_r1", QWEN: "qwen_scope"}
    connor = [f"{CONNOR}.pt", f"{CONNOR}_cfg.json", "a/run1.pt", "a/run1.yaml"]
    found = {it.where: it.format for it in find_saes([*connor, "trainer_state.pt"])}
    assert found == {f"{CONNOR}.pt": "connor_rob_hook_z", "a/run1.pt": "apollo"}


# --- Connor Kissane and Rob Krzyzanowski ---------------------------------------------------------


def write_connor(folder: Path, d_in: int = 16, base: str = CONNOR, **config: Any) -> Tensors:
    made = linear(d_in)
    tree = {"W_enc": made["encoder"].T.contiguous(), "W_dec": made["decoder"].T}
    save(folder / f"{base}.pt", {**tree, "b_enc": made["b_enc"], "b_dec": made["b_dec"]})
    told = {"act_name": "blocks.3.attn.hook_z", "act_size": d_in, "dict_size": 64, **config}
    (folder / f"{base.partition('.pt')[0]}_cfg.json").write_text(json.dumps(told))
    return made


@pytest.mark.parametrize("d_in", [16, 64], ids=["wide", "square"])
def test_connors_are_centred_and_see_all_heads(d_in: int, tmp_path: Path) -> None:
    made = write_connor(tmp_path / "in", d_in)
    where = f"{CONNOR}.pt"
    assert_computes(linear_forward(made, centre=True), tmp_path / "in", where, tmp_path / "out")
    info = inspect(tmp_path / "in")
    assert info.format == "connor_rob_hook_z"
    assert (info.get("hook_name"), info.get("layer")) == ("blocks.3.attn.hook_z", 3)
    assert (info.get("reshape_activations"), info.get("hook_type")) == ("hook_z", "attention")
    assert (info.get("model_name"), info.get("context_size")) == ("gpt2-small", 128)
    assert sorted(info.files) == sorted([where, f"{CONNOR}_cfg.json"])


def test_their_other_models_are_not_taken_for_gpt2(tmp_path: Path) -> None:
    write_connor(tmp_path, base="25", act_name="blocks.0.mlp.hook_post", model_name="gelu-1l")
    info = inspect(tmp_path)
    assert (info.get("model_name"), info.get("reshape_activations")) == ("gelu-1l", "none")
    assert (info.get("hook_type"), info.get("context_size")) == ("mlp", None)


def test_the_configuration_is_named_up_to_the_first_pt(tmp_path: Path) -> None:
    write_connor(tmp_path, base="run.pt_final")
    assert inspect(tmp_path).format == "connor_rob_hook_z"
    assert "run_cfg.json" in inspect(tmp_path).files


@pytest.mark.parametrize(
    "config",
    [{"act_size": 17}, {"dict_size": "64"}, {"dict_size": 2**80}, {"act_name": "x" * 9999},
     {"act_name": ["blocks.3"]}, {"act_size": -1}],
    ids=str,
)  # fmt: skip
def test_a_configuration_that_does_not_fit_is_broken(
    config: dict[str, Any], tmp_path: Path
) -> None:
    write_connor(tmp_path, **config)
    with pytest.raises(BrokenFile, match=next(iter(config))) as caught:
        inspect(tmp_path)
    assert len(str(caught.value)) < 300
