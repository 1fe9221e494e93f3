"""dictionary_learning: interrupted runs, snapshots, uploads, and what names of places tell."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saes.converter import inspect, load
from saes.errors import BrokenFile, SaeError, UnsupportedArchitecture
from saes.formats import FolderSource, by_slug
from saes.formats.base import Origin, Tree
from tests.formats.dictionaries import (
    D_IN,
    D_SAE,
    SCALED,
    STATES,
    WHERE,
    K,
    State,
    assert_is,
    backup,
    config,
    scaled,
    some,
    write,
)


@pytest.mark.parametrize("name", SCALED)
def test_the_state_of_an_interrupted_run_is_scaled_as_at_the_end(name: str, tmp_path: Path) -> None:
    small = scaled(name, 1 / 7.3)
    root = write(tmp_path / "in", name, backup(name, small, 7.3))
    wanted = {key: it.clone() for key, it in small.items()}
    for key in SCALED[name]:
        wanted[key] *= 7.3
    assert_is(name, wanted, root)
    tensors, final = load(root, WHERE).tensors, write(tmp_path / "final", name, wanted)
    for key, tensor in load(final, WHERE).tensors.items():
        assert np.array_equal(tensors[key].all(), tensor.all()), key
    assert inspect(root, WHERE).get("normalize_activations") == "none"


def test_a_threshold_never_estimated_is_not_scaled(tmp_path: Path) -> None:
    state = {**STATES["BatchTopKSAE"], "threshold": torch.tensor(-1.0)}
    write(tmp_path, "BatchTopKSAE", backup("BatchTopKSAE", state, 7.3))
    assert (load(tmp_path, WHERE).tensors["threshold"].all() == -1).all()


def test_an_interrupted_run_tells_its_class_itself(tmp_path: Path) -> None:
    state = backup("BatchTopKSAE", STATES["BatchTopKSAE"], 1.0)
    (tmp_path / "in").mkdir()
    torch.save(state, tmp_path / "in" / "ae.pt")
    assert_is("BatchTopKSAE", STATES["BatchTopKSAE"], tmp_path / "in", where=".")


def test_without_normalisation_nothing_is_scaled(tmp_path: Path) -> None:
    write(tmp_path, "AutoEncoder", backup("AutoEncoder", STATES["AutoEncoder"], None))
    bias = load(tmp_path, WHERE).tensors["b_dec"].all()
    assert np.array_equal(bias, STATES["AutoEncoder"]["bias"].numpy())


@pytest.mark.parametrize("factor", [0.0, -2.0, float("nan"), float("inf"), "7", [7.3]])
def test_an_impossible_norm_factor_is_broken(factor: Any, tmp_path: Path) -> None:
    write(tmp_path, "AutoEncoder", backup("AutoEncoder", STATES["AutoEncoder"], factor))
    with pytest.raises(BrokenFile, match="norm_factor"):
        inspect(tmp_path, WHERE)


def test_the_april_class_is_never_scaled_so_a_factor_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "AutoEncoderNew", backup("AutoEncoderNew", STATES["AutoEncoderNew"], 7.3))
    with pytest.raises(UnsupportedArchitecture, match="norm_factor"):
        inspect(tmp_path, WHERE)


def test_a_stranger_beside_the_nested_state_is_refused(tmp_path: Path) -> None:
    state = backup("AutoEncoder", STATES["AutoEncoder"], 2.0)
    with pytest.raises(BrokenFile, match="stranger"):
        inspect(write(tmp_path, "AutoEncoder", {**state, "stranger": some(3)}), WHERE)
    with pytest.raises(BrokenFile, match="both"):
        inspect(write(tmp_path, "AutoEncoder", {**state, "bias": some(D_IN)}), WHERE)


LISTING = [
    "run/resid_post_layer_3/trainer_0/ae.pt",
    "run/resid_post_layer_3/trainer_0/config.json",
    "run/resid_post_layer_3/trainer_0/eval_results.json",
    "run/resid_post_layer_3/trainer_0/checkpoints/ae_0.pt",
    "run/resid_post_layer_3/trainer_0/checkpoints/ae_1000.pt",
    "run/resid_post_layer_3_checkpoints/trainer_0_step_10/ae.pt",
    "run/resid_post_layer_3_checkpoints/trainer_0_step_10/config.json",
    "run/resid_post_layer_3/trainer_0/checkpoints/optimizer_0.pt",
    "elsewhere/checkpoints/ae_1.pt",
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "config.json",
    "README.md",
]


def test_every_sae_is_found_by_name_and_no_leftover() -> None:
    assert by_slug("dictionary_learning").find(Tree(LISTING, "someone/saes")) == [
        "run/resid_post_layer_3/trainer_0",
        "run/resid_post_layer_3/trainer_0/checkpoints/ae_0.pt",
        "run/resid_post_layer_3/trainer_0/checkpoints/ae_1000.pt",
        "run/resid_post_layer_3_checkpoints/trainer_0_step_10",
    ]


@pytest.mark.parametrize(
    ("repo", "found"),
    [("me/sae-gemma-2", ["."]), ("me/gpt2", []), ("me/crosscoder-l13", ["."]), (None, ["."])],
)
def test_an_upload_is_told_from_a_language_model_by_the_repository(
    repo: str | None, found: list[str]
) -> None:
    names, family = ["config.json", "model.safetensors"], by_slug("dictionary_learning")
    assert family.find(Tree(names, repo)) == found
    assert not family.find(Tree([*names, "tokenizer.json"], repo))


def test_a_checkpoint_takes_the_configuration_of_the_trainer_above(tmp_path: Path) -> None:
    root = write(tmp_path / "in", "BatchTopKSAE")
    (root / WHERE / "checkpoints").mkdir()
    step = f"{WHERE}/checkpoints/ae_1000.pt"
    other = {**STATES["BatchTopKSAE"], "b_dec": some(D_IN, seed=5)}
    torch.save(other, root / step)
    assert list(inspect(root, step).files) == [step, f"{WHERE}/config.json"]
    assert_is("BatchTopKSAE", other, root, step)


@pytest.mark.parametrize(
    ("submodule", "hook", "site"),
    [
        ("resid_post_layer_3", "blocks.3.hook_resid_post", "residual"),
        ("resid_out_layer3", "blocks.3.hook_resid_post", "residual"),
        ("resid_pre", "blocks.3.hook_resid_pre", "residual"),
        ("mlp_out_layer_3", "blocks.3.hook_mlp_out", "mlp"),
        ("mlp_layer_3", "blocks.3.hook_mlp_out", "mlp"),
        ("attn_out_layer_3", "blocks.3.hook_attn_out", "attention"),
        ("blocks.3.attn.hook_z", "blocks.3.attn.hook_z", "attention"),
        ("something_else", None, None),
        (None, None, None),
    ],
)
def test_the_submodule_tells_the_site(
    submodule: str | None, hook: str | None, site: str | None, tmp_path: Path
) -> None:
    write(tmp_path, "AutoEncoder", told=config("AutoEncoder", submodule_name=submodule), where="t")
    info = inspect(tmp_path, "t")
    assert (info.get("hook_name"), info.get("hook_type"), info.get("layer")) == (hook, site, 3)


def test_folders_tell_the_site_where_the_configuration_does_not(tmp_path: Path) -> None:
    told = config("AutoEncoder", submodule_name=None, layer=None)
    info = inspect(write(tmp_path, "AutoEncoder", told=told, where="mlp_out_layer7/10_32768"))
    assert (info.get("hook_name"), info.get("layer")) == ("blocks.7.hook_mlp_out", 7)
    assert info.facts["hook_name"].origin == Origin.PATH


@pytest.mark.parametrize("io", ["in", "in_and_out"])
def test_what_reads_a_submodules_input_is_not_placed_at_its_output(io: str, tmp_path: Path) -> None:
    told = {**config("AutoEncoder"), "buffer": {"io": io}}
    info = inspect(write(tmp_path, "AutoEncoder", told=told), WHERE)
    assert (info.get("hook_name"), info.get("hook_type"), info.get("layer")) == (None, None, 3)


def test_a_copied_file_is_known_by_tensors_that_no_other_family_has(tmp_path: Path) -> None:
    for name in ("GatedAutoEncoder", "MatryoshkaBatchTopKSAE", "BatchTopKSAE"):
        torch.save(STATES[name], tmp_path / "renamed.pt")
        assert inspect(tmp_path / "renamed.pt").format == "dictionary_learning"
    torch.save(STATES["AutoEncoder"], tmp_path / "renamed.pt")
    assert inspect(tmp_path / "renamed.pt").format != "dictionary_learning"


def upload(root: Path, state: State, told: dict[str, Any]) -> Path:
    root.mkdir(exist_ok=True)
    save_file(state, root / "model.safetensors")
    (root / "config.json").write_text(json.dumps(told))
    return root


@pytest.mark.parametrize("name", ["AutoEncoder", "GatedAutoEncoder", "JumpReluAutoEncoder"])
def test_uploads_by_the_mixin_are_read(name: str, tmp_path: Path) -> None:
    told = {"activation_dim": D_IN, "dict_size": D_SAE}
    assert_is(name, STATES[name], upload(tmp_path / "in", STATES[name], told), ".")


def test_an_upload_with_an_idle_normaliser_is_read_and_a_busy_one_refused(tmp_path: Path) -> None:
    idle = {
        "target_rms": torch.tensor(1.0),
        "activation_mean": torch.full((D_IN,), torch.nan),
        "activation_std": torch.full((D_IN,), torch.nan),
        "activation_global_scale": torch.tensor(1.0),
    }
    told, state = {"activation_dim": D_IN, "dict_size": D_SAE, "k": K}, STATES["BatchTopKSAE"]
    root = upload(tmp_path / "in", {**state, **idle}, told)
    assert_is("BatchTopKSAE", state, root, ".", architecture="jumprelu")
    upload(root, {**state, **idle, "activation_mean": some(D_IN)}, told)
    with pytest.raises(UnsupportedArchitecture, match="activation_mean"):
        inspect(root, ".")


def test_crosscoders_are_recognised_and_kept(tmp_path: Path) -> None:
    state = {
        "encoder.weight": some(2, D_IN, D_SAE),
        "encoder.bias": some(D_SAE),
        "decoder.weight": some(2, D_SAE, D_IN),
        "decoder.bias": some(2, D_IN),
    }
    root = upload(tmp_path / "in", state, {"activation_dim": D_IN, "dict_size": D_SAE})
    info = inspect(root, ".")
    assert (info.get("architecture"), info.get("d_in"), info.get("d_sae")) == (
        "crosscoder", D_IN, D_SAE,
    )  # fmt: skip
    with pytest.raises(UnsupportedArchitecture):
        load(root, ".")
    with pytest.raises(UnsupportedArchitecture):
        by_slug("dictionary_learning").reference(FolderSource(root), ".", {})


def test_a_language_model_is_not_ours(tmp_path: Path) -> None:
    upload(tmp_path, {"lm_head.weight": some(3, 3)}, {"model_type": "gpt2"})
    with pytest.raises(SaeError) as caught:
        inspect(tmp_path, ".")
    assert caught.value.code == "unknown_format"
