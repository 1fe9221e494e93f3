"""Where sae-lens itself is wrong about a file: what it makes of it, and what we do.

Each test is one trap that its loaders or its silence hold for whoever trusts them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version
from sae_lens import SAE, __version__
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file, save_file

from saes.converter import convert, inspect
from saes.errors import NeedsFacts, UnsupportedArchitecture
from saes.formats.saelens_writer import VERSION
from tests.fixtures import Array, tensors, write_saelens
from tests.interop.built import checkpoint, released, training
from tests.interop.sides import assert_near, inputs, theirs, through_ours, through_theirs

OLD: dict[str, Any] = {"metadata": None, "architecture": "standard"}


def difference(one: tuple[Array, Array], other: tuple[Array, Array]) -> float:
    return float(max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)))


def certified(source: Path, **facts: Any) -> Path:
    done = convert(source, source.with_name("converted"), to="saelens", facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed
    return source.with_name("converted")


def relu(folder: Path) -> tuple[Array, Array]:
    """The same weights as a plain ReLU SAE."""
    plain = write_saelens(folder.with_name("relu"), **OLD)
    return through_theirs(theirs(plain), inputs())


def test_the_version_that_we_state_is_one_that_exists() -> None:
    assert Version("6.0.0") <= Version(VERSION) <= Version(__version__)


# --- what it silently takes for ReLU --------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        {"activation_fn_str": "tanh-relu"},
        {"activation_fn": "gelu"},
    ],
)
def test_an_activation_that_it_no_longer_has_is_relu_to_it_and_refused_by_us(
    told: dict[str, Any], tmp_path: Path
) -> None:
    source = write_saelens(tmp_path / "in", **{**OLD, **told})
    assert difference(through_theirs(theirs(source), inputs()), relu(source)) == 0
    with pytest.raises(UnsupportedArchitecture):
        inspect(source)


def test_a_function_after_topk_is_dropped_by_it_and_refused_by_us(tmp_path: Path) -> None:
    arguments = {"k": 5, "postact_fn": "Identity"}
    told = {"activation_fn_str": "topk", "activation_fn_kwargs": arguments}
    source = write_saelens(tmp_path / "in", **{**OLD, **told})
    acts, _ = through_theirs(theirs(source), inputs())
    assert acts.min() == 0  # Identity would let negative values through
    with pytest.raises(UnsupportedArchitecture):
        inspect(source)


def test_an_old_topk_without_k_is_relu_to_it_and_a_question_to_us(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", **{**OLD, "activation_fn_str": "topk"})
    assert difference(through_theirs(theirs(source), inputs()), relu(source)) == 0
    with pytest.raises(NeedsFacts):
        certified(source)
    acts, _ = through_theirs(theirs(certified(source, k=5)), inputs())
    assert (acts != 0).sum(axis=1).max() == 5


def test_a_topk_without_k_has_a_hundred_to_it_and_is_a_question_to_us(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", "topk", k=None)
    assert theirs(source).cfg.k == 100
    with pytest.raises(NeedsFacts):
        certified(source)


# --- what it leaves out ---------------------------------------------------------------------------


def test_a_factor_beside_the_weights_is_left_out_by_it_and_folded_by_us(tmp_path: Path) -> None:
    sae = training("standard", normalize_activations="expected_average_only_in")
    scaler = ActivationScaler(scaling_factor=0.37)
    source = checkpoint(sae, tmp_path / "in", scaler)
    silent = through_theirs(theirs(source), inputs())
    goal = through_theirs(theirs(released(sae, tmp_path / "goal", scaler)), inputs())
    assert difference(silent, goal) > 1
    assert_near(through_theirs(theirs(certified(source)), inputs()), goal)


def test_a_factor_that_only_its_list_tells_is_left_out_from_disk_and_folded_by_us(
    tmp_path: Path,
) -> None:
    repo, path = (
        "tommmcgrath/gpt2-small-mlp-out-saes",
        "sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1",
    )
    source = write_saelens(tmp_path / "in" / path, **OLD, normalize_activations=True)
    goal = theirs(source)
    silent = through_theirs(goal, inputs())
    goal.fold_activation_norm_scaling_factor(1.049317316132615)
    convert(tmp_path / "in", tmp_path / "out", to="saelens", where=path, repo_id=repo)
    wanted = through_theirs(goal, inputs())
    assert difference(silent, wanted) > 0.1
    assert_near(through_theirs(theirs(tmp_path / "out"), inputs()), wanted)


def test_a_normalisation_that_only_its_list_tells_is_left_out_from_disk_and_stated_by_us(
    tmp_path: Path,
) -> None:
    repo, path = "JoshEngels/Mistral-7B-Residual-Stream-SAEs", "mistral_7b_layer_8"
    source = write_saelens(tmp_path / "in" / path, **OLD)
    done = convert(tmp_path / "in", tmp_path / "out", to="saelens", where=path, repo_id=repo)
    assert done.certificate is not None
    assert done.certificate.passed
    assert theirs(source).cfg.normalize_activations == "none"
    assert theirs(tmp_path / "out").cfg.normalize_activations == "constant_norm_rescale"


def test_metadata_without_a_version_is_thrown_away_by_it_and_read_by_us(tmp_path: Path) -> None:
    told = {"hook_name": "blocks.3.hook_resid_post", "model_name": "gpt2"}
    source = write_saelens(tmp_path / "in", metadata=told)
    assert theirs(source).cfg.metadata.hook_name is None
    kept = theirs(certified(source)).cfg.metadata
    assert (kept.hook_name, kept.model_name) == (told["hook_name"], told["model_name"])


def test_a_float32_threshold_is_rounded_to_bfloat16_by_it_and_kept_by_us(tmp_path: Path) -> None:
    sae = training("jumprelu", dtype="bfloat16")
    sae.save_inference_model(tmp_path / "in")
    assert not torch.equal(theirs(tmp_path / "in", dtype=None).threshold.float(), sae.threshold)
    kept = theirs(certified(tmp_path / "in"), dtype=None).threshold
    assert torch.equal(kept, sae.threshold.data)


# --- what it cannot load at all -------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_a_batch_topk_checkpoint_is_unknown_to_it_and_jumprelu_to_us(
    architecture: str, tmp_path: Path
) -> None:
    source = checkpoint(training(architecture), tmp_path / "in")
    with pytest.raises(KeyError, match=architecture):
        SAE.load_from_disk(source)
    assert theirs(certified(source)).cfg.architecture() == "jumprelu"


def test_a_log_threshold_is_unknown_to_it_and_a_threshold_to_us(tmp_path: Path) -> None:
    source = checkpoint(training("jumprelu"), tmp_path / "in")
    stored = load_file(source / "sae_weights.safetensors")
    stored["log_threshold"] = stored.pop("threshold").log()
    save_file(stored, source / "sae_weights.safetensors")
    with pytest.raises(RuntimeError, match="log_threshold"):
        SAE.load_from_disk(source)
    assert (theirs(certified(source)).threshold > 0).all()


def test_a_finetuning_factor_is_unknown_to_it_and_in_the_decoder_to_us(tmp_path: Path) -> None:
    factor = np.linspace(0.5, 2, 64, dtype=np.float32)
    told: dict[str, Any] = {"scaling_factor": factor, "finetuning_scaling_factor": True}
    source = write_saelens(tmp_path / "in", **OLD, **told)
    with pytest.raises(RuntimeError, match="finetuning_scaling_factor"):
        SAE.load_from_disk(source)
    found = theirs(certified(source), dtype=None)
    assert np.array_equal(found.W_dec.detach().numpy(), tensors()["W_dec"] * factor[:, None])


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"dtype": None}, KeyError),
        ({"d_out": None}, RuntimeError),  # 768 to it
        ({"apply_b_dec_to_input": None}, ValueError),  # true to it
    ],
)
def test_a_transcoder_whose_cfg_is_silent_fails_with_it_and_not_with_us(
    told: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    source = write_saelens(tmp_path / "in", "transcoder", d_out=12)
    cfg = json.loads((source / "cfg.json").read_text()) | told
    kept = {name: value for name, value in cfg.items() if value is not None}
    (source / "cfg.json").write_text(json.dumps(kept))
    with pytest.raises(error):
        SAE.load_from_disk(source)
    found = through_theirs(theirs(certified(source)), inputs())
    assert_near(found, through_ours(source, inputs()))


def test_null_arguments_of_an_activation_fail_with_it_and_are_none_to_us(tmp_path: Path) -> None:
    told = {"activation_fn_str": "topk", "activation_fn_kwargs": None, "k": 5}
    source = write_saelens(tmp_path / "in", **OLD)
    cfg = json.loads((source / "cfg.json").read_text()) | told
    (source / "cfg.json").write_text(json.dumps(cfg))
    with pytest.raises(AttributeError):
        SAE.load_from_disk(source)
    assert theirs(certified(source)).cfg.k == 5
