"""OpenMOSS lm-saes: every activation, norm and kind that its config.json can say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from saes.converter import convert, inspect, load
from saes.errors import (
    BadFact,
    BrokenFile,
    CannotRepresent,
    ConfigNotFound,
    UnknownFormat,
    UnsupportedArchitecture,
)
from saes.formats import FolderSource, by_slug, find_saes
from saes.formats.base import Origin
from tests.fixtures import Array, tensors
from tests.formats.cuts import assert_cut_is_broken

HOOK, MLP_IN, MLP_OUT = (
    f"blocks.5.{it}" for it in ("hook_resid_post", "ln2.hook_normalized", "hook_mlp_out")
)
TRANSCODER = {"hook_point_in": MLP_IN, "hook_point_out": MLP_OUT}
LOG_THRESHOLD = "activation_function.log_jumprelu_threshold"
Weights = dict[str, torch.Tensor]


def stored(act_fn: str, d_in: int = 16, norms: dict[str, float] | None = None) -> Weights:
    """Decoder rows of very different lengths, so that it shows where they matter."""
    made = {name: torch.from_numpy(it) for name, it in tensors("standard", d_in).items()}
    out = {"W_E": made["W_enc"], "b_E": made["b_enc"], "b_D": made["b_dec"]}
    out["W_D"] = (made["W_dec"] * torch.linspace(0.1, 2, 64)[:, None]).contiguous()
    if act_fn == "jumprelu":
        out[LOG_THRESHOLD] = torch.linspace(-2, 2, 64)
    norms = norms or {HOOK: 2.5, MLP_IN: 2.5, MLP_OUT: 7.0}
    return out | {
        f"dataset_average_activation_norm.{hook}": torch.tensor(norm)
        for hook, norm in norms.items()
    }


def write(
    root: Path, act_fn: str = "jumprelu", made: Weights | None = None, **changes: Any
) -> Path:
    """`changes` are keys of config.json; None removes one."""
    told: dict[str, Any] = {
        "sae_type": "sae",
        "d_model": 16,
        "expansion_factor": 4.0,
        "hook_point_in": HOOK,
        "hook_point_out": HOOK,
        "use_decoder_bias": True,
        "use_glu_encoder": False,
        "act_fn": act_fn,
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "top_k": 5,
        "jumprelu_threshold_window": 2.0,
        **changes,
    }
    root.mkdir(parents=True, exist_ok=True)
    save_file(stored(act_fn) if made is None else made, root / "sae_weights.safetensors")
    said = {key: value for key, value in told.items() if value is not None}
    (root / "config.json").write_text(json.dumps(said))
    return root


def forward(
    made: Weights, x: Array, cfg: dict[str, Any], factors: tuple[Any, Any]
) -> tuple[Array, Array]:
    """lm-saes: normalise, encode, weigh by decoder norms, fire, undo the weights, decode, undo.

    Features are those that fire, before the weights are undone.
    """
    it = {name: weight.double() for name, weight in made.items()}
    scaled = torch.from_numpy(x) * factors[0]
    if cfg.get("apply_decoder_bias_to_pre_encoder"):
        scaled = scaled - it["b_D"]
    before = scaled @ it["W_E"] + it["b_E"]
    lengths = it["W_D"].norm(dim=1) if cfg["sparsity_include_decoder_norm"] else torch.ones(64)
    score = before * lengths
    if cfg["act_fn"] == "jumprelu":
        fired = score * (score > it[LOG_THRESHOLD].exp())
    else:
        fired = torch.relu(score)
    if cfg["act_fn"] == "topk":
        top = torch.topk(fired, cfg["top_k"], dim=-1)
        fired = torch.zeros_like(fired).scatter(-1, top.indices, top.values)
    recon = ((fired / lengths) @ it["W_D"] + it.get("b_D", torch.zeros(16))) / factors[1]
    return fired.numpy(), recon.numpy()


def assert_converts(root: Path, factors: tuple[Any, Any], **facts: Any) -> None:
    cfg = json.loads((root / "config.json").read_text())
    made = load_file(root / "sae_weights.safetensors")
    done = convert(root, root.parent / "out", to="mistudio", facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed
    x = np.random.default_rng(5).standard_normal((32, 16))
    if cfg["norm_activation"] == "token-wise":
        factors = (torch.from_numpy(4 / np.linalg.norm(x, axis=1, keepdims=True)),) * 2
    acts, recon = forward(made, x, cfg, factors)
    assert 0.05 < (acts != 0).mean() < 0.8
    for side in (
        by_slug("openmoss").reference(FolderSource(root), ".", facts),
        by_slug("mistudio").reference(FolderSource(root.parent / "out"), ".", {}),
    ):
        found = side.encode(x, lambda count: None)
        assert np.allclose(found, acts, atol=1e-5)
        assert np.allclose(side.decode(found, x, lambda count: None), recon, atol=1e-5)


@pytest.mark.parametrize("norms", ["dataset-wise", "token-wise", "inference"])
@pytest.mark.parametrize("weighed", [True, False])
@pytest.mark.parametrize(
    ("act_fn", "architecture"), [("relu", "standard"), ("jumprelu", "jumprelu"), ("topk", "topk")]
)
def test_an_sae_computes_what_its_library_says(
    act_fn: str, architecture: str, weighed: bool, norms: str, tmp_path: Path
) -> None:
    root = write(
        tmp_path / "in", act_fn, sparsity_include_decoder_norm=weighed, norm_activation=norms
    )
    s = 1.6 if norms == "dataset-wise" else 1.0
    assert_converts(root, (s, s))
    info = inspect(root)
    assert info.get("architecture") == architecture
    by_token = norms == "token-wise"
    assert info.get("normalize_activations") == ("constant_norm_rescale" if by_token else "none")
    assert info.get("k") == (5 if act_fn == "topk" else None)
    assert not info.get("rescale_acts_by_decoder_norm")


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
def test_a_transcoder_is_folded_by_two_norms(act_fn: str, centred: bool, tmp_path: Path) -> None:
    changes: dict[str, Any] = {**TRANSCODER, "apply_decoder_bias_to_pre_encoder": centred}
    root = write(tmp_path / "in", act_fn, **changes)
    assert_converts(root, (1.6, 4 / 7))
    info = inspect(root)
    assert info.get("architecture").endswith("transcoder")
    assert (info.get("hook_name"), info.get("hook_name_out")) == (MLP_IN, MLP_OUT)


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
def test_the_length_of_a_decoder_row_goes_over_to_the_encoder(act_fn: str, tmp_path: Path) -> None:
    made = stored(act_fn)
    tensors = load(write(tmp_path, act_fn, made, norm_activation="inference")).tensors
    it = {name: weight.double() for name, weight in made.items()}
    lengths = it["W_D"].norm(dim=1)
    expected = {
        "W_enc": it["W_E"] * lengths,
        "b_enc": it["b_E"] * lengths,
        "W_dec": it["W_D"] / lengths[:, None],
        "b_dec": it["b_D"],
    }
    if act_fn == "jumprelu":
        expected["threshold"] = it[LOG_THRESHOLD].exp()
    assert tensors.keys() == expected.keys()
    for name, truth in expected.items():
        assert np.allclose(tensors[name].all(), truth, rtol=1e-6, atol=1e-9), name


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
def test_a_feature_with_a_decoder_row_of_zeros_never_fires(act_fn: str, tmp_path: Path) -> None:
    made = stored(act_fn)
    made["W_D"][3] = 0
    done = convert(write(tmp_path / "in", act_fn, made), tmp_path / "out", to="mistudio")
    assert done.certificate is not None
    assert done.certificate.passed
    written = load(tmp_path / "out").tensors
    assert not written["W_enc"].all()[:, 3].any()
    assert not written["W_dec"].all()[3].any()


def test_a_centred_sae_and_one_without_decoder_bias(tmp_path: Path) -> None:
    root = write(tmp_path / "a" / "in", apply_decoder_bias_to_pre_encoder=True)
    assert_converts(root, (1.6, 1.6))
    assert inspect(root).get("apply_b_dec_to_input") is True
    made = stored("jumprelu")
    del made["b_D"]
    assert_converts(write(tmp_path / "b" / "in", made=made, use_decoder_bias=False), (1.6, 1.6))


def test_weights_of_linear_layers_are_read_too(tmp_path: Path) -> None:
    """As the library named them for some months of 2025."""
    made = stored("jumprelu")
    own = {name: it for name, it in made.items() if "." in name}
    write(tmp_path / "now", made=made)
    renamed = {
        "encoder.weight": made["W_E"].T.contiguous(),
        "encoder.bias": made["b_E"],
        "decoder.weight": made["W_D"].T.contiguous(),
        "decoder.bias": made["b_D"],
    }
    write(tmp_path / "then", made={**own, **renamed})
    now, then = load(tmp_path / "now"), load(tmp_path / "then")
    assert then.info.format == "openmoss"
    for name, tensor in now.tensors.items():
        assert np.array_equal(then.tensors[name].all(), tensor.all()), name
    done = convert(tmp_path / "then", tmp_path / "out", to="mistudio")
    assert done.certificate is not None
    assert done.certificate.passed


def test_a_square_sae_is_not_turned(tmp_path: Path) -> None:
    made = stored("relu", d_in=64)
    plain = {"norm_activation": "inference", "sparsity_include_decoder_norm": False}
    sae = load(write(tmp_path, "relu", made, d_model=64, **plain))
    assert np.array_equal(sae.tensors["W_enc"].all(), made["W_E"].double())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_stay_narrow_until_a_factor_is_folded(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    made = {name: it.to(dtype) for name, it in stored("relu").items()}
    words = str(dtype).removeprefix("torch.")
    bare = {"norm_activation": "inference", "sparsity_include_decoder_norm": False}
    assert inspect(write(tmp_path, "relu", made, **bare)).get("dtype") == words
    for folds in ({"norm_activation": "dataset-wise"}, {"sparsity_include_decoder_norm": True}):
        assert inspect(write(tmp_path, "relu", made, **{**bare, **folds})).get("dtype") == "float32"
        assert {it.dtype for it in load(tmp_path).tensors.values()} == {"F32"}


def test_a_factor_that_no_file_tells_is_asked_for(tmp_path: Path) -> None:
    made = {name: it for name, it in stored("jumprelu").items() if "norm" not in name}
    root = write(tmp_path / "in", made=made)
    assert [it.name for it in inspect(root).missing] == ["norm_scaling_factor"]
    assert_converts(root, (3.0, 3.0), norm_scaling_factor=3.0)
    origin = inspect(root, given={"norm_scaling_factor": 3}).facts["norm_scaling_factor"].origin
    assert origin == Origin.USER


def test_norms_that_were_never_measured_are_not_read(tmp_path: Path) -> None:
    """The library writes whatever lay in memory where it measured none."""
    made = stored("relu", norms={HOOK: float("nan")})
    assert inspect(write(tmp_path, "relu", made, norm_activation="inference")).missing == ()
    with pytest.raises(BrokenFile, match="dataset_average_activation_norm"):
        inspect(write(tmp_path, "relu", made))


@pytest.mark.parametrize("kind", ["crosscoder", "clt"])
def test_kinds_that_are_no_plain_dictionaries_are_shown_with_the_reason(
    kind: str, tmp_path: Path
) -> None:
    made = {"W_E": torch.ones(3, 16, 64), "b_E": torch.ones(3, 64), "W_D.0": torch.ones(1, 64, 16)}
    root = write(tmp_path / "in", made=made, sae_type=kind, hook_points=[HOOK, MLP_OUT])
    with pytest.raises(BadFact, match="architecture"):
        inspect(root, given={"architecture": "jumprelu"})
    info = inspect(root)
    assert (info.format, info.get("architecture")) == ("openmoss", kind)
    assert (info.get("d_in"), info.get("d_sae")) == (16, 64)
    assert {it.name for it in info.tensors} == set(made)
    with pytest.raises(CannotRepresent):
        convert(root, tmp_path / "out")
    with pytest.raises(UnsupportedArchitecture, match="no plain SAE"):
        by_slug("openmoss").reference(FolderSource(root), ".", {})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sae_type": "lorsa"}, "sae_type lorsa"),
        ({"sae_type": "molt"}, "sae_type molt"),
        ({"use_glu_encoder": True}, "use_glu_encoder"),
        ({"act_fn": "batchtopk"}, "act_fn batchtopk"),
        ({"norm_activation": "batch-wise"}, "norm_activation batch-wise"),
        ({"norm_activation": "token-wise", **TRANSCODER}, "norm_activation token-wise"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(
    changes: dict[str, Any], field: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedArchitecture, match=field):
        inspect(write(tmp_path, **changes))


@pytest.mark.parametrize("top_k", [0, 65, -1, 2.5, "5", 10**12])
def test_an_impossible_k_is_broken(top_k: Any, tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="k"):
        inspect(write(tmp_path, "topk", top_k=top_k))


def test_a_k_that_is_not_told_is_asked_for_and_checked(tmp_path: Path) -> None:
    write(tmp_path, "topk", top_k=None)
    assert [it.name for it in inspect(tmp_path).missing] == ["k"]
    assert inspect(tmp_path, given={"k": "7"}).get("k") == 7
    with pytest.raises(BadFact):
        inspect(tmp_path, given={"k": 65})


@pytest.mark.parametrize(
    "changes",
    [
        {"sae_type": 1},
        {"act_fn": ["relu"]},
        {"d_model": 17},
        {"d_model": True},
        {"norm_activation": 3},
        {"sparsity_include_decoder_norm": "yes"},
        {"use_decoder_bias": "no"},
        {"hook_point_out": {}},
    ],
)
def test_a_hostile_configuration_is_broken(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BrokenFile):
        inspect(write(tmp_path, **changes))


def test_without_its_configuration_it_is_not_read(tmp_path: Path) -> None:
    (write(tmp_path) / "config.json").unlink()
    with pytest.raises(ConfigNotFound):
        inspect(tmp_path, "sae_weights.safetensors")


def test_other_weights_beside_a_configuration_are_not_mine(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat):
        inspect(write(tmp_path, made={"weight": torch.ones(3)}, sae_type=None), ".")


@pytest.mark.parametrize("name", ["W_D", "b_E", "b_D", LOG_THRESHOLD])
def test_a_missing_or_unknown_tensor_is_broken(name: str, tmp_path: Path) -> None:
    made = stored("jumprelu")
    with pytest.raises(BrokenFile, match="stranger"):
        inspect(write(tmp_path, made={**made, "stranger": torch.ones(3)}))
    del made[name]
    with pytest.raises(BrokenFile):
        inspect(write(tmp_path, made=made))


def test_a_threshold_that_its_activation_does_not_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="threshold"):
        inspect(write(tmp_path, made=stored("jumprelu"), act_fn="topk"))


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    path = write(tmp_path) / "sae_weights.safetensors"
    assert_cut_is_broken(path, lambda: inspect(tmp_path))


def test_names_tell_every_sae_and_no_leftover() -> None:
    folders = ("L8R", "transcoder/8x/layer5_transcoder_8x_k64", "plain")
    names = [
        f"{it}/{base}" for it in folders for base in ("config.json", "sae_weights.safetensors")
    ]
    names += ["plain/optimizer.pt", "plain/trainer.pt", "other/config.json", "config.json"]
    names += [f"native/{it}" for it in ("config.json", "cfg.json", "sae_weights.safetensors")]
    found = {it.where: it.format for it in find_saes(names)}
    assert found == {
        "L8R": "llama_scope_r1_distill",
        "transcoder/8x/layer5_transcoder_8x_k64": "openmoss",
        "plain": "openmoss",
        "native": "saelens",
    }
