"""Gemma Scope 2: header and config.json first, names second; parts of CLTs and crosscoders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from saes.converter import convert, inspect, load
from saes.errors import (
    BadFact,
    BrokenFile,
    CannotRepresent,
    NeedsFacts,
    UnknownFormat,
    UnsupportedArchitecture,
)
from saes.formats import FolderSource, by_slug, find_saes
from saes.formats.base import Origin
from tests.fixtures import Array, tensors
from tests.formats.cuts import assert_cut_is_broken

REPO = "google/gemma-scope-2-1b-pt"
PLACE = "layer_7_width_65k_l0_medium"
HOOKS = {
    "resid_post": ("model.layers.7.output", "blocks.7.hook_resid_post", "residual"),
    "attn_out": ("model.layers.7.self_attn.o_proj.input", "blocks.7.attn.hook_z", "attention"),
    "mlp_out": (
        "model.layers.7.post_feedforward_layernorm.output",
        "blocks.7.hook_mlp_out",
        "mlp",
    ),
}
READ, WRITTEN = (f"model.layers.7.{it}_feedforward_layernorm.output" for it in ("pre", "post"))


def stored(d_in: int = 16, d_sae: int = 64, d_out: int = 0, affine: bool = False) -> dict[str, Any]:
    made = tensors("jumprelu", d_in, d_sae, d_out)
    named = {"W_enc": "w_enc", "W_dec": "w_dec"}
    out = {named.get(name, name): it for name, it in made.items()}
    if affine:
        random = np.random.default_rng(3)
        out["affine_skip_connection"] = random.standard_normal((d_in, d_out or d_in), np.float32)
    return out


def write(root: Path, where: str, made: dict[str, Any], **config: Any) -> Path:
    """config.json is left out where nothing is said of it."""
    folder = root / where
    folder.mkdir(parents=True, exist_ok=True)
    save_file(made, folder / "params.safetensors")
    if config:
        said = {"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt", "l0": 60, **config}
        (folder / "config.json").write_text(json.dumps(said))
    return root


def transcoder(**config: Any) -> dict[str, Any]:
    told = {"hf_hook_point_in": READ, "hf_hook_point_out": WRITTEN, "type": "transcoder"}
    return {**told, "affine_connection": False, **config}


def forward(made: dict[str, Any], x: Array) -> tuple[Array, Array]:
    """The forward of Gemma Scope's tutorial, in torch."""
    it = {name: torch.from_numpy(array).double() for name, array in made.items()}
    given = torch.from_numpy(x)
    before = given @ it["w_enc"] + it["b_enc"]
    acts = (before > it["threshold"]) * torch.relu(before)
    recon = acts @ it["w_dec"] + it["b_dec"]
    if "affine_skip_connection" in it:
        recon = recon + given @ it["affine_skip_connection"]
    return acts.numpy(), recon.numpy()


def assert_computes(root: Path, where: str, made: dict[str, Any]) -> None:
    x = np.random.default_rng(5).standard_normal((8, made["w_enc"].shape[0]))
    reference = by_slug("gemma_scope_2").reference(FolderSource(root), where, {})
    acts = reference.encode(x, lambda count: None)
    recon = reference.decode(acts, x, lambda count: None)
    truth = forward(made, x)
    assert np.allclose(acts, truth[0])
    assert np.allclose(recon, truth[1])


@pytest.mark.parametrize("site", HOOKS)
@pytest.mark.parametrize("suffix", ["", "_all"])
@pytest.mark.parametrize("has_config", [True, False])
def test_each_site_is_told_by_config_and_by_names(
    site: str, suffix: str, has_config: bool, tmp_path: Path
) -> None:
    hf_hook, hook, kind = HOOKS[site]
    config = {"hf_hook_point_in": hf_hook, "hf_hook_point_out": hf_hook, "type": "sae"}
    where = f"{site}{suffix}/{PLACE}"
    write(tmp_path, where, stored(), **(config if has_config else {}))
    info = inspect(tmp_path, repo_id=REPO)
    assert (info.get("architecture"), info.get("hook_name")) == ("jumprelu", hook)
    assert (info.get("hook_type"), info.get("layer")) == (kind, 7)
    assert info.get("reshape_activations") == "none"
    assert info.get("model_name") == "google/gemma-3-1b-pt"
    assert info.get("hf_hook_name") == (hf_hook if has_config else None)
    assert info.facts["architecture"].origin == (Origin.FILE if has_config else Origin.PATH)
    assert info.get("l0") == (60 if has_config else "medium")


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("has_config", [True, False])
@pytest.mark.parametrize("d_out", [16, 12])
def test_a_transcoder_computes_what_its_tutorial_says(
    affine: bool, has_config: bool, d_out: int, tmp_path: Path
) -> None:
    where = f"transcoder_all/{PLACE}" + ("_affine" if affine else "")
    made = stored(d_out=d_out, affine=affine)
    config = transcoder(affine_connection=affine) if has_config else {}
    write(tmp_path / "in", where, made, **config)
    done = convert(tmp_path / "in", tmp_path / "out", to="mistudio", repo_id=REPO)
    assert done.certificate is not None
    assert done.certificate.passed
    skip = "skip_" if affine else ""
    assert done.info.get("architecture") == f"jumprelu_{skip}transcoder"
    assert done.info.get("d_out") == d_out
    assert done.info.get("hook_name_out") == "blocks.7.hook_mlp_out"
    if affine:
        written = load(tmp_path / "out").tensors["W_skip"].all()
        assert np.array_equal(written, made["affine_skip_connection"].T)
    assert_computes(tmp_path / "in", where, made)


@pytest.mark.parametrize("d_in", [16, 64])
def test_an_sae_computes_what_its_tutorial_says_square_or_not(d_in: int, tmp_path: Path) -> None:
    where, made = f"resid_post/{PLACE}", stored(d_in)
    write(tmp_path / "in", where, made)
    done = convert(tmp_path / "in", tmp_path / "out", to="mistudio", repo_id=REPO)
    assert done.certificate is not None
    assert done.certificate.passed
    assert np.array_equal(load(tmp_path / "out").tensors["W_enc"].all(), made["w_enc"])
    assert_computes(tmp_path / "in", where, made)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_stored_dtype_stays(dtype: torch.dtype, tmp_path: Path) -> None:
    made = {name: torch.from_numpy(it).to(dtype) for name, it in stored().items()}
    save_torch(made, tmp_path / "params.safetensors")
    sae = load(tmp_path, facts={"architecture": "jumprelu"})
    assert sae.info.get("dtype") == str(dtype).removeprefix("torch.")
    assert np.array_equal(sae.tensors["W_dec"].all(), made["w_dec"].double().numpy())


def test_config_outranks_names(tmp_path: Path) -> None:
    info = inspect(write(tmp_path, f"resid_post/{PLACE}", stored(), **transcoder()))
    assert (info.get("architecture"), info.get("hook_type")) == (
        "jumprelu_transcoder",
        "transcoder",
    )


def test_hooks_alone_tell_a_transcoder(tmp_path: Path) -> None:
    info = inspect(write(tmp_path, ".", stored(), **transcoder(type=None)))
    assert (info.get("architecture"), info.get("hook_name")) == (
        "jumprelu_transcoder",
        "blocks.7.hook_mlp_in",
    )


@pytest.mark.parametrize("affine", [True, False])
def test_the_header_tells_what_neither_config_nor_names_do(affine: bool, tmp_path: Path) -> None:
    made = stored(d_out=16 if affine else 12, affine=affine)
    info = inspect(write(tmp_path, "some/where", made))
    skip = "skip_" if affine else ""
    assert info.get("architecture") == f"jumprelu_{skip}transcoder"
    assert info.facts["architecture"].origin == Origin.FILE


@pytest.mark.parametrize("told", ["type", "hooks", "names"])
@pytest.mark.parametrize("site", HOOKS)
def test_an_sae_that_lost_a_row_is_broken_and_no_transcoder(
    site: str, told: str, tmp_path: Path
) -> None:
    made, hook = stored(), HOOKS[site][0]
    made["w_enc"] = made["w_enc"][:-1].copy()
    config = {
        "type": {"type": "sae"},
        "hooks": {"hf_hook_point_in": hook, "hf_hook_point_out": hook},
        "names": {},
    }[told]
    write(tmp_path, f"{site}/{PLACE}" if told == "names" else "some/where", made, **config)
    with pytest.raises(BrokenFile, match="W_dec"):
        inspect(tmp_path)


def test_an_affine_tensor_in_an_sae_by_its_name_is_broken(tmp_path: Path) -> None:
    write(tmp_path, f"resid_post/{PLACE}", stored(affine=True))
    with pytest.raises(BrokenFile, match="affine_skip_connection"):
        inspect(tmp_path)


@pytest.mark.parametrize(
    ("site", "stated"),
    [
        ("resid_post", {"k": 5}),
        ("resid_post", {"norm_scaling_factor": 2}),
        ("resid_post", {"orientation": "d_in,d_sae"}),
        ("resid_post", {"architecture": "standard"}),
        ("transcoder", {"architecture": "jumprelu_skip_transcoder"}),
        ("transcoder", {"architecture": "jumprelu"}),
        ("transcoder", {"apply_b_dec_to_input": True}),
        ("transcoder", {"normalize_activations": "layer_norm"}),
    ],
)
def test_a_fact_that_cannot_be_is_refused_by_name(
    site: str, stated: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, f"{site}/{PLACE}", stored(d_out=12 if site == "transcoder" else 16))
    with pytest.raises(BadFact, match=next(iter(stated))):
        inspect(tmp_path, given=stated)


def test_without_config_and_names_the_architecture_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "in", "some/where", stored())
    info = inspect(tmp_path / "in")
    assert [fact.name for fact in info.missing] == ["architecture"]
    with pytest.raises(NeedsFacts):
        convert(tmp_path / "in", tmp_path / "out")
    facts = {"architecture": "jumprelu_transcoder", "layer": 7}
    done = convert(tmp_path / "in", tmp_path / "out", facts=facts, to="mistudio")
    assert done.info.get("hook_name") == "blocks.7.hook_mlp_in"
    assert done.certificate is not None
    assert done.certificate.passed


def test_a_renamed_file_is_known_by_its_header(tmp_path: Path) -> None:
    save_file(stored(), tmp_path / "mine.safetensors")
    info = inspect(tmp_path / "mine.safetensors")
    assert (info.format, info.where) == ("gemma_scope_2", "mine.safetensors")


def test_an_affine_tensor_that_config_denies_is_refused_not_dropped(tmp_path: Path) -> None:
    write(tmp_path / "in", f"transcoder/{PLACE}", stored(affine=True), **transcoder())
    with pytest.raises(BrokenFile, match="affine_skip_connection") as caught:
        inspect(tmp_path / "in")
    assert "jumprelu_skip_transcoder" in caught.value.next_step
    facts = {"architecture": "jumprelu_skip_transcoder"}
    done = convert(tmp_path / "in", tmp_path / "out", facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed
    with pytest.raises(BadFact, match="jumprelu_skip_transcoder"):
        inspect(tmp_path / "in", given={"architecture": "jumprelu_transcoder"})


@pytest.mark.parametrize(
    ("affine", "config"),
    [(False, {"affine_connection": True}), (True, {"type": "sae", "affine_connection": True})],
)
def test_other_contradictions_about_the_affine_connection_are_broken(
    affine: bool, config: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, f"transcoder/{PLACE}", stored(affine=affine), **transcoder(**config))
    with pytest.raises(BrokenFile, match="affine"):
        inspect(tmp_path)


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, f"resid_post/{PLACE}", stored(), architecture="topk")
    with pytest.raises(UnsupportedArchitecture, match="topk is not jump_relu"):
        inspect(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"type": "lorsa"},
        {"type": ["sae"]},
        {"type": "clt"},
        {"affine_connection": "no"},
        {"hf_hook_point_in": 7},
        {"l0": "many"},
        {"model_name": "x" * 5000},
        {"architecture": {}},
    ],
)
def test_a_hostile_config_is_broken(config: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, f"resid_post/{PLACE}", stored(), **config)
    with pytest.raises(BrokenFile) as caught:
        inspect(tmp_path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["w_dec", "b_enc", "b_dec", "threshold"])
def test_a_missing_tensor_is_broken_not_unknown(name: str, tmp_path: Path) -> None:
    made = stored()
    del made[name]
    with pytest.raises(BrokenFile):
        inspect(write(tmp_path, f"resid_post/{PLACE}", made))


def test_an_unknown_tensor_is_refused_by_name(tmp_path: Path) -> None:
    made = {**stored(), "surprise": np.ones(3)}
    with pytest.raises(BrokenFile, match="surprise"):
        inspect(write(tmp_path, f"resid_post/{PLACE}", made))


def test_other_tensors_under_this_name_are_not_mine(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat):
        inspect(write(tmp_path, f"resid_post/{PLACE}", {"weight": np.ones((2, 3))}))


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    where = f"resid_post/{PLACE}"
    path = write(tmp_path, where, stored()) / where / "params.safetensors"
    assert_cut_is_broken(path, lambda: inspect(tmp_path, where))


@pytest.mark.parametrize(
    ("repo", "model"),
    [
        ("google/gemma-scope-2-270m-pt", "google/gemma-3-270m"),
        ("google/gemma-scope-2-270m-it", "google/gemma-3-270m-it"),
        ("google/gemma-scope-2-27b-it", "google/gemma-3-27b-it"),
        ("google/gemma-scope-2b-pt-res", None),
    ],
)
def test_the_repository_tells_the_model(repo: str, model: str | None, tmp_path: Path) -> None:
    info = inspect(write(tmp_path, f"resid_post/{PLACE}", stored()), repo_id=repo)
    assert info.get("model_name") == model


# --- parts of cross-layer transcoders and of crosscoders -----------------------------------------

CLT = "clt/width_262k_l0_big_affine"
CROSSCODER = "crosscoder/layer_7_13_17_22_width_65k_l0_medium"


def write_parts(root: Path, where: str, count: int, **config: Any) -> Path:
    folder = root / where
    folder.mkdir(parents=True)
    for number in range(count):
        made = stored()
        made["w_dec"] = np.random.default_rng(1).standard_normal((64, count, 16), np.float32)
        save_file(made, folder / f"params_layer_{number}.safetensors")
    if config:
        (folder / "config.json").write_text(json.dumps({"architecture": "jump_relu", **config}))
    return root


def test_names_tell_layers_of_a_clt_and_whole_crosscoders() -> None:
    names = [f"{CLT}/params_layer_{number}.safetensors" for number in (0, 2, 10)]
    names += [f"{CROSSCODER}/params_layer_{number}.safetensors" for number in range(4)]
    names += [f"{CLT}/config.json", f"{CROSSCODER}/config.json", "README.md"]
    found = [it.where for it in find_saes(names, REPO)]
    assert found == [*(f"{CLT}/params_layer_{n}" for n in (0, 10, 2)), CROSSCODER]


@pytest.mark.parametrize("suffix", ["", ".safetensors"])
@pytest.mark.parametrize("has_config", [True, False])
def test_a_layer_of_a_clt_is_shown_and_kept_as_it_is(
    suffix: str, has_config: bool, tmp_path: Path
) -> None:
    write_parts(tmp_path / "in", CLT, 3, **({"type": "clt"} if has_config else {}))
    where = f"{CLT}/params_layer_2{suffix}"
    info = inspect(tmp_path / "in", where, REPO)
    assert (info.format, info.get("architecture")) == ("gemma_scope_2", "clt")
    assert [info.get(name) for name in ("layer", "d_in", "d_sae", "d_out")] == [2, 16, 64, 16]
    config = [f"{CLT}/config.json"] if has_config else []
    assert list(info.files) == [f"{CLT}/params_layer_2.safetensors", *config]
    assert {spec.name: spec.shape for spec in info.tensors}["w_dec"] == (64, 3, 16)
    with pytest.raises(CannotRepresent, match="all layers after it"):
        convert(tmp_path / "in", tmp_path / "out", where=where, repo_id=REPO)


def test_stated_facts_do_not_make_a_plain_sae_of_a_clt(tmp_path: Path) -> None:
    write_parts(tmp_path, CLT, 2)
    with pytest.raises(BadFact, match="architecture"):
        inspect(tmp_path, f"{CLT}/params_layer_0", given={"architecture": "jumprelu"})
    assert inspect(tmp_path, f"{CLT}/params_layer_0").get("architecture") == "clt"
    with pytest.raises(UnsupportedArchitecture, match="no plain SAE"):
        load(tmp_path, f"{CLT}/params_layer_0")
    with pytest.raises(UnsupportedArchitecture, match="no plain SAE"):
        by_slug("gemma_scope_2").reference(FolderSource(tmp_path), f"{CLT}/params_layer_0", {})


def test_a_crosscoder_is_all_its_slots(tmp_path: Path) -> None:
    write_parts(tmp_path, CROSSCODER, 4, type="crosscoder")
    info = inspect(tmp_path, repo_id=REPO)
    assert (info.where, info.get("architecture")) == (CROSSCODER, "crosscoder")
    assert (info.get("d_in"), info.get("d_sae"), info.get("layer")) == (16, 256, None)
    assert len(info.files) == 5
    assert {"params_layer_0.w_enc", "params_layer_3.b_dec"} <= {it.name for it in info.tensors}


def test_a_part_that_nothing_tells_is_refused_in_words(tmp_path: Path) -> None:
    write_parts(tmp_path, "copied", 2)
    with pytest.raises(UnsupportedArchitecture, match="CLT or of a crosscoder"):
        inspect(tmp_path, "copied/params_layer_0")
    write_parts(tmp_path, "told", 2, type="clt")
    assert inspect(tmp_path, "told/params_layer_0").get("architecture") == "clt"


def test_a_part_with_a_wrong_shape_or_a_strange_tensor_is_broken(tmp_path: Path) -> None:
    write_parts(tmp_path, CLT, 2)
    path = tmp_path / CLT / "params_layer_0.safetensors"
    made = {**stored(), "w_dec": np.ones((64, 2, 16), np.float32)}
    save_file({**made, "threshold": np.ones(63, np.float32)}, path)
    with pytest.raises(BrokenFile, match="threshold"):
        inspect(tmp_path, f"{CLT}/params_layer_0")
    save_file({**made, "stranger": np.ones(3)}, path)
    with pytest.raises(BrokenFile, match="stranger"):
        inspect(tmp_path, f"{CLT}/params_layer_0")
