"""Temporal SAEs: read strictly, bit for bit, though no certificate can hold them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from saes.converter import convert, inspect, load
from saes.errors import (
    BadFact,
    BrokenFile,
    CannotRepresent,
    NotThisFormat,
    UnsupportedArchitecture,
)
from saes.formats import FolderSource, by_slug, find_saes
from saes.formats.base import Origin
from tests.fixtures import Array
from tests.formats.cuts import assert_cut_is_broken

WHERE = "gemma-2-2B/layer_12/temporal"
SAE = {
    "bottleneck_factor": 4,
    "exp_factor": 4,
    "kval_topk": 6,
    "n_attn_layers": 2,
    "n_heads": 4,
    "sae_diff_type": "topk",
    "scaling_factor": 0.5,
    "tied_weights": True,
}


def some(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def weights(layers: int = 2, tied: bool = True, d_in: int = 16, d_sae: int = 64) -> dict[str, Any]:
    made = {"D": some(d_sae, d_in), "b": some(d_in)}
    if not tied:
        made["E"] = some(d_in, d_sae)
    for number in range(layers):
        for name, width in (("k_ctx", 4), ("q_target", 4), ("v_ctx", 1), ("c_proj", 1)):
            place = f"attn_layers.{number}.{name}"
            made |= {f"{place}.weight": some(d_sae // width, d_sae)}
            made |= {f"{place}.bias": some(d_sae // width)}
    return made


def written(root: Path, made: dict[str, Any], llm: Any = None, **changes: Any) -> Path:
    (root / WHERE).mkdir(parents=True, exist_ok=True)
    save_file(made, root / WHERE / "latest_ckpt.safetensors")
    sae = {name: it for name, it in {**SAE, **changes}.items() if it != "absent"}
    model = {"dimin": 16, "name": "google/gemma-2-2b"} if llm is None else llm
    conf = {"data": {"dtype": "bfloat16"}, "llm": model, "sae": sae}
    (root / WHERE / "conf.yaml").write_text(yaml.safe_dump(conf))
    return root


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("d_in", [16, 64])
def test_the_tensors_only_change_their_names(tied: bool, d_in: int, tmp_path: Path) -> None:
    """E is [d_in, d_sae] as W_enc is: square or not, nothing is turned."""
    made = weights(tied=tied, d_in=d_in)
    told = {"tied_weights": tied, "exp_factor": 64 / d_in, "llm": {"dimin": d_in}}
    tensors = load(written(tmp_path, made, **told)).tensors
    names = {"D": "W_dec", "b": "b_dec", "E": "W_enc"}
    assert tensors.keys() == {names.get(name, name) for name in made}
    for name, array in made.items():
        assert np.array_equal(tensors[names.get(name, name)].all(), array), name


def test_its_facts_carry_saelens_names(tmp_path: Path) -> None:
    info = inspect(written(tmp_path, weights(), scaling_factor=5e-05))
    told = {name: info.get(name) for name in (*SAE, "architecture", "d_in", "d_sae", "dtype")}
    assert told == {
        **dict.fromkeys(("exp_factor", "scaling_factor")),
        **{name: it for name, it in SAE.items() if name not in ("exp_factor", "scaling_factor")},
        "architecture": "temporal",
        "d_in": 16,
        "d_sae": 64,
        "dtype": "float32",  # of the tensors; conf.yaml's is the training's
    }
    assert info.get("activation_normalization_factor") == 5e-05
    assert info.get("normalize_activations") == "constant_scalar_rescale"
    assert info.get("apply_b_dec_to_input") is True
    assert (info.get("layer"), info.get("model_name")) == (12, "google/gemma-2-2b")
    assert info.get("hook_name") == "blocks.12.hook_resid_post"
    assert info.facts["hook_name"].origin == Origin.CATALOGUE
    assert info.files == [f"{WHERE}/conf.yaml", f"{WHERE}/latest_ckpt.safetensors"]


def test_a_folder_copied_elsewhere_is_read_without_its_layer(tmp_path: Path) -> None:
    folder = written(tmp_path, weights(), kval_topk=None, sae_diff_type="relu") / WHERE
    info = inspect(folder)
    assert (info.where, info.get("layer"), info.get("hook_name")) == (".", None, None)
    assert info.get("kval_topk") is None


def test_it_is_no_plain_sae(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", weights())
    with pytest.raises(CannotRepresent, match="earlier tokens"):
        convert(folder, tmp_path / "out", "mistudio")
    with pytest.raises(UnsupportedArchitecture, match="earlier tokens"):
        by_slug("temporal").reference(FolderSource(folder), WHERE, {})


def test_unknown_missing_and_misshapen_tensors_are_refused(tmp_path: Path) -> None:
    made = weights()
    lacking = {name: it for name, it in made.items() if name != "attn_layers.1.v_ctx.bias"}
    wrong = (
        {**made, "stranger": some(3)},
        {**made, "E": some(16, 64)},  # tied, says conf.yaml
        {**made, "D": some(16, 64)},
        {**made, "attn_layers.2.k_ctx.bias": some(16)},
        lacking,
    )
    for number, tensors in enumerate(wrong):
        with pytest.raises(BrokenFile):
            inspect(written(tmp_path / str(number), tensors))
    with pytest.raises(BrokenFile, match="W|E"):
        inspect(written(tmp_path / "turned", {**made, "E": some(64, 16)}, tied_weights=False))


@pytest.mark.parametrize(
    "changes",
    [
        {"n_heads": 0},
        {"n_heads": 3},
        {"n_heads": "absent"},
        {"n_attn_layers": 10**9},
        {"bottleneck_factor": "four"},
        {"exp_factor": 1e200},
        {"exp_factor": -4},
        {"exp_factor": "absent"},
        {"sae_diff_type": "sometimes"},
        {"sae_diff_type": "absent"},
        {"kval_topk": 65},
        {"tied_weights": "perhaps"},
        {"tied_weights": "absent"},
        {"scaling_factor": 0},
        {"scaling_factor": float("nan")},
        {"llm": {"dimin": 17}},
        {"llm": [16]},
        {"llm": {}},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BrokenFile) as caught:
        inspect(written(tmp_path, weights(), **changes))
    assert len(str(caught.value)) < 300


def test_weights_without_attention_are_not_ours(tmp_path: Path) -> None:
    folder = written(tmp_path, {"D": some(64, 16), "b": some(16)})
    with pytest.raises(NotThisFormat):
        by_slug("temporal").probe(FolderSource(folder), WHERE, {})


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    file = written(tmp_path, weights(layers=1), n_attn_layers=1) / WHERE / "latest_ckpt.safetensors"
    assert_cut_is_broken(file, lambda: inspect(tmp_path))


def test_names_find_each_and_invent_none() -> None:
    names = [f"{WHERE}/conf.yaml", f"{WHERE}/latest_ckpt.safetensors", "other/conf.yaml"]
    assert [(it.where, it.format) for it in find_saes(names)] == [(WHERE, "temporal")]


@pytest.mark.parametrize(
    "given",
    [
        {"k": 3}, {"architecture": "topk"}, {"apply_b_dec_to_input": False},
        {"normalize_activations": "none"}, {"norm_scaling_factor": 2}, {"generation": 1},
    ],
)  # fmt: skip
def test_nothing_is_stated_of_it_that_its_files_settle(
    given: dict[str, Any], tmp_path: Path
) -> None:
    written(tmp_path, weights())
    with pytest.raises(BadFact):
        inspect(tmp_path, WHERE, given=given)
    assert inspect(tmp_path, WHERE, given={"model_name": "gpt2"}).get("model_name") == "gpt2"
