"""Llama Scope and Llama Scope R1 distill: factors of training, thresholds, transcoders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from saes.converter import convert, inspect, load
from saes.errors import BrokenFile, UnknownFormat, UnsupportedArchitecture
from saes.formats import FolderSource, by_slug, find_saes
from saes.formats.base import Origin, Tree
from saes.formats.catalogue import known
from tests.fixtures import Array, tensors
from tests.formats.cuts import assert_cut_is_broken

LXR = "fnlp/Llama3_1-8B-Base-LXR-8x"
R1 = "fnlp/Llama-Scope-R1-Distill"
PLACE = "Llama3_1-8B-Base-L8R-8x"
LISTED = "0-Slimpajama-800M-OpenR1-Math-220k/L8R"
HOOK, MLP_IN, MLP_OUT = (
    f"blocks.8.{it}" for it in ("hook_resid_post", "ln2.hook_normalized", "hook_mlp_out")
)
THRESHOLD, NORM_IN, NORM_OUT = 0.35, 2.5, 7.0
Weights = dict[str, torch.Tensor]


def linear(d_in: int = 16, dtype: torch.dtype = torch.float32) -> Weights:
    made = {name: torch.from_numpy(it) for name, it in tensors("standard", d_in).items()}
    out = {
        "encoder.weight": made["W_enc"].T,
        "encoder.bias": made["b_enc"],
        "decoder.weight": made["W_dec"].T,
        "decoder.bias": made["b_dec"],
    }
    return {name: it.to(dtype).contiguous() for name, it in out.items()}


def write_scope(
    root: Path, made: Weights | None = None, where: str = PLACE, **changes: Any
) -> Path:
    """A Llama Scope folder. `changes` are keys of hyperparams.json; None removes one."""
    made = linear() if made is None else made
    told: dict[str, Any] = {
        "hook_point_in": HOOK,
        "hook_point_out": HOOK,
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "d_model": made["encoder.weight"].shape[1],
        "d_sae": made["encoder.weight"].shape[0],
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": NORM_IN, "out": NORM_OUT},
        "sparsity_include_decoder_norm": True,
        "use_glu_encoder": False,
        "act_fn": "jumprelu",
        "jump_relu_threshold": THRESHOLD,
        "top_k": 50,
        **changes,
    }
    (root / where / "checkpoints").mkdir(parents=True)
    save_file(made, root / where / "checkpoints" / "final.safetensors")
    said = {key: value for key, value in told.items() if value is not None}
    (root / where / "hyperparams.json").write_text(json.dumps(said))
    return root


def write_r1(root: Path, where: str = "copy", norms: Any = (), **changes: Any) -> Path:
    made = linear()
    made["log_jumprelu_threshold"] = torch.linspace(-2, 0, 64)
    for name, norm in dict(norms).items():
        made[f"dataset_average_activation_norm.{name}"] = torch.tensor(norm)
    told = {"d_model": 16, "expansion_factor": 4, "hook_point_in": HOOK, **changes}
    (root / where).mkdir(parents=True)
    save_file(made, root / where / "sae_weights.safetensors")
    (root / where / "config.json").write_text(json.dumps(told))
    return root


def forward(
    made: Weights,
    x: Array,
    threshold: Any,
    factors: tuple[float, float],
    centred: bool = False,
) -> tuple[Array, Array]:
    """lm-saes of 2024, with inputs scaled and outputs scaled back; the threshold is scaled too."""
    it = {name: weight.double() for name, weight in made.items()}
    scaled = torch.from_numpy(x) * factors[0]
    bias = it.get("decoder.bias", torch.zeros(16, dtype=torch.float64))
    if centred:
        scaled = scaled - bias
    before = scaled @ it["encoder.weight"].T + it["encoder.bias"]
    acts = before.where(before > threshold, 0)
    recon = (acts @ it["decoder.weight"].T + bias) / factors[1]
    return acts.numpy(), recon.numpy()


def assert_converts(
    root: Path, truth: Any, repo_id: str | None = None, facts: dict[str, Any] | None = None
) -> None:
    """Reference and converted weights give the truth; the certificate says so, too."""
    done = convert(root, root.parent / "out", to="mistudio", repo_id=repo_id, facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed
    assert done.info.get("normalize_activations") == "none"
    source, copy = FolderSource(root, repo_id), FolderSource(root.parent / "out")
    x = np.random.default_rng(5).standard_normal((32, 16))
    acts, recon = truth(x)
    sides = (
        by_slug(done.info.format).reference(source, done.info.where, facts or {}),
        by_slug("mistudio").reference(copy, ".", {}),
    )
    assert 0.05 < (acts != 0).mean() < 0.8
    for side in sides:
        found = side.encode(x, lambda count: None)
        assert np.allclose(found, acts, atol=1e-5)
        assert np.allclose(side.decode(found, x, lambda count: None), recon, atol=1e-5)


# --- Llama Scope ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("centred", [True, False])
def test_an_sae_is_folded_by_its_own_norm(
    dtype: torch.dtype, centred: bool, tmp_path: Path
) -> None:
    made = linear(dtype=dtype)
    write_scope(tmp_path / "in", made, apply_decoder_bias_to_pre_encoder=centred)
    s = 4 / NORM_IN
    assert_converts(
        tmp_path / "in", lambda x: forward(made, x, THRESHOLD * s, (s, s), centred), LXR
    )
    info = inspect(tmp_path / "in", repo_id=LXR)
    assert info.get("apply_b_dec_to_input") is centred
    assert info.get("dtype") == "float32"
    assert info.facts["norm_scaling_factor"].value == s
    assert info.facts["norm_scaling_factor"].origin == Origin.FILE


@pytest.mark.parametrize("centred", [True, False])
def test_a_transcoder_is_folded_by_two_norms(centred: bool, tmp_path: Path) -> None:
    made = linear()
    hooks = {"hook_point_in": MLP_IN, "hook_point_out": MLP_OUT}
    write_scope(tmp_path / "in", made, **hooks, apply_decoder_bias_to_pre_encoder=centred)
    factors = 4 / NORM_IN, 4 / NORM_OUT
    assert_converts(
        tmp_path / "in", lambda x: forward(made, x, THRESHOLD * factors[0], factors, centred)
    )
    info = inspect(tmp_path / "in")
    assert (info.get("architecture"), info.get("hook_type")) == (
        "jumprelu_transcoder",
        "transcoder",
    )
    assert (info.get("hook_name"), info.get("hook_name_out")) == (MLP_IN, MLP_OUT)
    assert info.get("apply_b_dec_to_input") is False


def test_a_stated_factor_outranks_the_file(tmp_path: Path) -> None:
    made = linear()
    write_scope(tmp_path / "in", made)
    assert_converts(
        tmp_path / "in",
        lambda x: forward(made, x, THRESHOLD * 2, (2, 2)),
        facts={"norm_scaling_factor": "2"},
    )
    info = inspect(tmp_path / "in", given={"norm_scaling_factor": 2})
    assert info.facts["norm_scaling_factor"].origin == Origin.USER


def test_weights_that_were_never_scaled_keep_their_bits(tmp_path: Path) -> None:
    made = linear(dtype=torch.bfloat16)
    write_scope(tmp_path / "in", made, norm_activation="inference")
    assert_converts(tmp_path / "in", lambda x: forward(made, x, THRESHOLD, (1, 1)))
    sae = load(tmp_path / "in")
    assert sae.tensors["W_enc"].dtype == "BF16"
    assert "norm_scaling_factor" not in sae.info.facts


def test_a_decoder_without_bias_has_one_of_zeros(tmp_path: Path) -> None:
    made = linear()
    del made["decoder.bias"]
    write_scope(tmp_path / "in", made, use_decoder_bias=False)
    s = 4 / NORM_IN
    assert_converts(tmp_path / "in", lambda x: forward(made, x, THRESHOLD * s, (s, s)))
    write_scope(tmp_path / "broken", made)
    with pytest.raises(BrokenFile, match="b_dec"):
        inspect(tmp_path / "broken")


def test_a_square_sae_is_turned(tmp_path: Path) -> None:
    made = linear(d_in=64)
    sae = load(write_scope(tmp_path, made, norm_activation="none"))
    assert np.array_equal(sae.tensors["W_enc"].all(), made["encoder.weight"].double().T)
    assert np.array_equal(sae.tensors["W_dec"].all(), made["decoder.weight"].double().T)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"act_fn": "topk"}, "act_fn topk"),
        ({"act_fn": "relu"}, "act_fn relu"),
        ({"use_glu_encoder": True}, "use_glu_encoder"),
        ({"norm_activation": "token-wise"}, "norm_activation token-wise"),
        ({"norm_activation": "batch-wise"}, "norm_activation batch-wise"),
        (
            {"hook_point_out": MLP_OUT, "dataset_average_activation_norm": {"in": 2.5}},
            "norm of the transcoder's outputs",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(
    changes: dict[str, Any], field: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedArchitecture, match=field):
        inspect(write_scope(tmp_path, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"jump_relu_threshold": None},
        {"jump_relu_threshold": "0.35"},
        {"dataset_average_activation_norm": {"in": 0.0}},
        {"dataset_average_activation_norm": {"in": -1}},
        {"dataset_average_activation_norm": {"in": "2.5"}},
        {"dataset_average_activation_norm": [2.5]},
        {"d_model": 17},
        {"d_sae": 63},
        {"d_model": 10**30},
        {"act_fn": 5},
        {"hook_point_in": ["a"]},
        {"use_glu_encoder": "yes"},
        {"apply_decoder_bias_to_pre_encoder": 1},
        {"norm_activation": {}},
    ],
)
def test_a_hostile_configuration_is_broken(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BrokenFile):
        inspect(write_scope(tmp_path, **changes))


def test_a_factor_that_no_file_tells_is_asked_for(tmp_path: Path) -> None:
    info = inspect(write_scope(tmp_path, dataset_average_activation_norm=None))
    assert [fact.name for fact in info.missing] == ["norm_scaling_factor"]


def test_only_names_of_the_release_tell_its_model(tmp_path: Path) -> None:
    write_scope(tmp_path, where="copied")
    assert inspect(tmp_path, repo_id=LXR).get("model_name") == "meta-llama/Llama-3.1-8B"
    assert inspect(tmp_path).get("model_name") is None


@pytest.mark.parametrize(
    ("letter", "site"),
    [("R", "residual"), ("A", "attention"), ("M", "mlp"), ("TC", "transcoder")],
)
def test_names_tell_layer_and_site(letter: str, site: str) -> None:
    where = f"Llama3_1-8B-Base-L17{letter}-32x"
    names = [f"{where}/{it}" for it in ("hyperparams.json", "checkpoints/final.safetensors")]
    names += [f"{where}/lm_config.json", f"{where}/checkpoints/0.safetensors", "README.md"]
    tree = Tree(names, f"fnlp/Llama3_1-8B-Base-LX{letter}-32x")
    assert [(it.where, it.format) for it in find_saes(tree)] == [(where, "llama_scope")]
    hints = by_slug("llama_scope").hints(tree, where)
    assert (hints["layer"].value, hints["hook_type"].value) == (17, site)


def test_an_unknown_or_missing_tensor_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="stranger"):
        inspect(write_scope(tmp_path / "more", {**linear(), "stranger": torch.ones(3)}))
    made = linear()
    del made["encoder.bias"]
    with pytest.raises(BrokenFile, match="b_enc"):
        inspect(write_scope(tmp_path / "less", made))


# --- Llama Scope R1 distill ----------------------------------------------------------------------


def r1_truth(root: Path, s: tuple[float, float], centred: bool = False) -> Any:
    (path,) = root.rglob("sae_weights.safetensors")
    made = load_file(path)
    threshold = made["log_jumprelu_threshold"].double().exp()
    return lambda x: forward(made, x, threshold, s, centred)


@pytest.mark.parametrize(
    "norms", [{"in": 2.5, "out": 2.5}, {HOOK: 2.5}], ids=["in and out", "by hook"]
)
def test_r1_takes_the_factor_of_its_file_and_leaves_the_threshold(
    norms: dict[str, float], tmp_path: Path
) -> None:
    write_r1(tmp_path / "in", norms=norms)
    assert_converts(tmp_path / "in", r1_truth(tmp_path / "in", (1.6, 1.6)))
    logarithms = torch.linspace(-2, 0, 64).double()
    threshold = load(tmp_path / "in").tensors["threshold"].all()
    assert np.allclose(threshold, logarithms.exp(), rtol=1e-7)


def test_r1_takes_the_factor_of_the_release_where_the_file_is_silent(tmp_path: Path) -> None:
    write_r1(tmp_path / "in", LISTED)
    factor = known(R1, LISTED)["norm_scaling_factor"]
    assert_converts(tmp_path / "in", r1_truth(tmp_path / "in", (factor, factor)), R1)
    info = inspect(tmp_path / "in", repo_id=R1)
    assert info.facts["norm_scaling_factor"].origin == Origin.CATALOGUE
    assert info.get("model_name") == "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"


def test_r1_asks_for_the_factor_where_nothing_tells_it(tmp_path: Path) -> None:
    write_r1(tmp_path / "in")
    assert [it.name for it in inspect(tmp_path / "in").missing] == ["norm_scaling_factor"]
    truth = r1_truth(tmp_path / "in", (3, 3))
    assert_converts(tmp_path / "in", truth, facts={"norm_scaling_factor": 3})


def test_r1_as_a_centred_sae_and_as_a_transcoder(tmp_path: Path) -> None:
    norms = {"in": NORM_IN, "out": NORM_OUT}
    write_r1(tmp_path / "a" / "in", norms=norms, apply_decoder_bias_to_pre_encoder=True)
    assert_converts(tmp_path / "a" / "in", r1_truth(tmp_path / "a" / "in", (1.6, 1.6), True))
    write_r1(tmp_path / "b" / "in", norms=norms, hook_point_out=MLP_OUT)
    assert_converts(tmp_path / "b" / "in", r1_truth(tmp_path / "b" / "in", (1.6, 4 / NORM_OUT)))


def test_r1_under_any_file_name_without_its_configuration(tmp_path: Path) -> None:
    write_r1(tmp_path, norms={"in": 2.5})
    (tmp_path / "copy" / "config.json").unlink()
    (tmp_path / "copy" / "sae_weights.safetensors").rename(tmp_path / "mine.safetensors")
    info = inspect(tmp_path / "mine.safetensors")
    assert (info.format, info.missing) == ("llama_scope_r1_distill", ())


def test_folders_may_be_named_like_files(tmp_path: Path) -> None:
    write_r1(tmp_path, "L8R.safetensors", norms={"in": 2.5})
    assert inspect(tmp_path).format == "llama_scope_r1_distill"


@pytest.mark.parametrize("norm", [0.0, -2.5, float("nan"), float("inf")])
def test_r1_with_an_impossible_norm_is_broken(norm: float, tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="dataset_average_activation_norm"):
        inspect(write_r1(tmp_path, norms={"in": norm}))


def test_r1_with_a_norm_that_is_no_number_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="one number"):
        inspect(write_r1(tmp_path, norms={"in": [2.5, 2.5]}))


def test_linear_weights_without_its_threshold_are_not_mine(tmp_path: Path) -> None:
    write_r1(tmp_path, norms={"in": 2.5})
    save_file(linear(), tmp_path / "copy" / "sae_weights.safetensors")
    with pytest.raises(UnknownFormat):
        inspect(tmp_path, "copy")


@pytest.mark.parametrize("write", [write_scope, write_r1])
def test_a_file_cut_anywhere_is_broken(write: Any, tmp_path: Path) -> None:
    (path,) = write(tmp_path).rglob("*.safetensors")
    assert_cut_is_broken(path, lambda: inspect(tmp_path))
