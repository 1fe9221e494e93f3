"""Llama Scope, its R1 distill and OpenMOSS: null in a configuration, and facts that cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saes.converter import convert, inspect
from saes.errors import BadFact
from saes.formats import only_sae
from saes.formats.base import Tree
from tests.formats import test_llama_scope as llama_scope
from tests.formats import test_openmoss as openmoss

R1, LISTED, PLACE = llama_scope.R1, llama_scope.LISTED, llama_scope.PLACE
TRANSCODER: dict[str, Any] = openmoss.TRANSCODER
FOLDERS: dict[str, Callable[[Path], Path]] = {
    "Llama Scope": llama_scope.write_scope,
    "Llama Scope transcoder": lambda root: llama_scope.write_scope(root, **TRANSCODER),
    "R1": lambda root: llama_scope.write_r1(root, norms={"in": 2.5, "out": 7.0}),
    "R1 listed": lambda root: llama_scope.write_r1(root, LISTED),
    "OpenMOSS relu": lambda root: openmoss.write(root, "relu"),
    "OpenMOSS topk": lambda root: openmoss.write(root, "topk"),
    "OpenMOSS by token": lambda root: openmoss.write(root, norm_activation="token-wise"),
    "OpenMOSS transcoder": lambda root: openmoss.write(root, **TRANSCODER),
}
each_folder = pytest.mark.parametrize("folder", FOLDERS)


def repo_of(folder: str) -> str | None:
    return R1 if folder == "R1 listed" else None


def say(root: Path, **changes: Any) -> None:
    (path,) = [*root.rglob("config.json"), *root.rglob("hyperparams.json")]
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def converts(root: Path, repo_id: str | None = None, **facts: Any) -> bool:
    done = convert(root, root.parent / "out", to="mistudio", repo_id=repo_id, facts=facts)
    return done.certificate is not None and done.certificate.passed


@pytest.mark.parametrize(
    "key",
    [
        "hook_point_out",
        "norm_activation",
        "use_decoder_bias",
        "apply_decoder_bias_to_pre_encoder",
        "sparsity_include_decoder_norm",
        "use_glu_encoder",
        "act_fn",
        "d_model",
    ],
)
@each_folder
def test_null_says_nothing(folder: str, key: str, tmp_path: Path) -> None:
    root = FOLDERS[folder](tmp_path / "in")
    say(root, **{key: None})
    assert converts(root, repo_of(folder))


@pytest.mark.parametrize("norms", [None, {"in": None, "out": None}])
def test_a_stated_factor_is_enough_where_the_norms_are_null(norms: Any, tmp_path: Path) -> None:
    root = llama_scope.write_scope(tmp_path / "in")
    say(root, dataset_average_activation_norm=norms, hook_point_out=None)
    assert converts(root, norm_scaling_factor=2)


def test_a_stated_factor_is_enough_where_no_norms_are_stored(tmp_path: Path) -> None:
    made = {name: it for name, it in openmoss.stored("relu").items() if "norm" not in name}
    root = openmoss.write(tmp_path / "a" / "in", "relu", made)
    say(root, hook_point_out=None)
    assert converts(root, norm_scaling_factor=2)
    root = llama_scope.write_r1(tmp_path / "b" / "in", hook_point_out=None)
    assert converts(root, norm_scaling_factor=2)


def test_the_factor_of_the_release_stands_in_for_a_norm_that_is_not_of_the_input(
    tmp_path: Path,
) -> None:
    assert converts(llama_scope.write_r1(tmp_path / "in", LISTED, {"out": 7.0}), R1)


@pytest.mark.parametrize(
    "stated",
    [
        {"normalize_activations": "layer_norm"},
        {"architecture": "gated"},
        {"generation": 2},
        {"orientation": "d_sae,d_in"},
    ],
)
@each_folder
def test_a_fact_that_cannot_be_is_refused_by_name(
    folder: str, stated: dict[str, Any], tmp_path: Path
) -> None:
    root = FOLDERS[folder](tmp_path)
    with pytest.raises(BadFact, match=next(iter(stated))):
        inspect(root, repo_id=repo_of(folder), given=stated)


@each_folder
def test_only_top_k_has_a_k_and_no_transcoder_centres(folder: str, tmp_path: Path) -> None:
    root, repo_id = FOLDERS[folder](tmp_path / "in"), repo_of(folder)
    if folder != "OpenMOSS topk":
        with pytest.raises(BadFact, match="k belongs to top-k"):
            inspect(root, repo_id=repo_id, given={"k": 5})
    if "transcoder" in folder:
        with pytest.raises(BadFact, match="apply_b_dec_to_input"):
            inspect(root, given={"apply_b_dec_to_input": True})
    else:
        assert converts(root, repo_id, apply_b_dec_to_input=True)


@pytest.mark.parametrize("norm", ["inference", "none", "token-wise"])
@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
def test_a_factor_of_what_was_never_scaled_is_refused(
    act_fn: str, norm: str, tmp_path: Path
) -> None:
    root = openmoss.write(tmp_path, act_fn, norm_activation=norm)
    with pytest.raises(BadFact, match="norm_scaling_factor"):
        inspect(root, given={"norm_scaling_factor": 2})


def test_a_file_below_the_folder_of_its_sae_stands_for_it(tmp_path: Path) -> None:
    root = llama_scope.write_scope(tmp_path)
    for name in ("checkpoints/final.safetensors", "hyperparams.json"):
        info = inspect(root, f"{PLACE}/{name}", llama_scope.LXR)
        assert (info.format, info.where) == ("llama_scope", PLACE)


def test_a_file_of_no_sae_above_it_stands_for_itself() -> None:
    own = ["a/hyperparams.json", "a/checkpoints/final.safetensors"]
    for name in ("a/checkpoints/other.safetensors", "a/b/c/d/e/final.safetensors"):
        assert only_sae(Tree([*own, name]), name) == name
