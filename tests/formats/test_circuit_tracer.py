"""circuit-tracer's transcoders: every kind, and what config.yaml tells."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saes.converter import convert, inspect, load
from saes.errors import (
    BadFact,
    BrokenFile,
    CertificateFailed,
    SaeError,
    UnsupportedArchitecture,
)
from saes.formats import FolderSource, by_slug
from saes.formats.base import Origin
from tests.fixtures.circuit_tracer import (
    CONFIG,
    FILE,
    asked,
    certified,
    layer,
    some,
    written,
)


def computed(made: dict[str, Any], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As circuit-tracer does it."""
    w = {name: torch.from_numpy(np.asarray(it)).double() for name, it in made.items()}
    acts = torch.nn.functional.linear(x, w["W_enc"], w["b_enc"])
    if "activation_function.threshold" in w:
        acts = acts * (acts > w["activation_function.threshold"])
    elif "k" in w:
        kept = torch.topk(acts, int(w["k"]), dim=-1).indices
        acts = acts * torch.zeros_like(acts).scatter(-1, kept, 1)
    else:
        acts = torch.relu(acts)
    out = acts @ w["W_dec"] + w["b_dec"]
    return acts, out + x @ w["W_skip"].T if "W_skip" in w else out


@pytest.mark.parametrize(
    ("kinds", "architecture"),
    [
        ((), "transcoder"),
        (("skip",), "skip_transcoder"),
        (("threshold",), "jumprelu_transcoder"),
        (("threshold", "skip"), "jumprelu_skip_transcoder"),
        (("k",), "topk_transcoder"),
        (("k", "skip"), "topk_skip_transcoder"),
    ],
)
@pytest.mark.parametrize("d_sae", [64, 16])
def test_every_kind_computes_what_circuit_tracer_computes(
    kinds: tuple[str, ...], architecture: str, d_sae: int, tmp_path: Path
) -> None:
    made = layer(*kinds, d_sae=d_sae, b_enc=some(d_sae))
    if "k" in kinds:
        made["k"] = np.array(2)
    folder = written(tmp_path / "in", made)
    info = certified(folder, tmp_path / "out")
    assert info.get("architecture") == architecture
    x = torch.randn(32, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    acts, out = computed(made, x)
    for source, slug, where in (
        (folder, "circuit_tracer_transcoder", FILE),
        (tmp_path / "out", "mistudio", "."),
    ):
        forward = by_slug(slug).reference(FolderSource(source), where, {})
        encoded = forward.encode(x.numpy(), lambda count: None)
        assert np.allclose(encoded, acts.numpy(), atol=1e-9)
        decoded = forward.decode(encoded, x.numpy(), lambda count: None)
        assert np.allclose(decoded, out.numpy(), atol=1e-9)


def test_only_the_encoder_is_turned_and_nothing_else_changes(tmp_path: Path) -> None:
    made = layer("threshold", "skip")
    tensors = load(written(tmp_path, made)).tensors
    assert np.array_equal(tensors["W_enc"].all(), made["W_enc"].T)
    for name in ("W_dec", "W_skip", "b_enc", "b_dec"):
        assert np.array_equal(tensors[name].all(), made[name]), name
    assert np.array_equal(tensors["threshold"].all(), made["activation_function.threshold"])


def test_a_decoder_stored_output_first_is_turned(tmp_path: Path) -> None:
    made = layer()
    folder = written(tmp_path / "in", {**made, "W_dec": made["W_dec"].T})
    certified(folder, tmp_path / "out")
    assert np.array_equal(load(folder).tensors["W_dec"].all(), made["W_dec"])


def test_one_threshold_may_stand_for_all_features(tmp_path: Path) -> None:
    for shape in ((), (1,)):
        one: dict[str, Any] = {"activation_function.threshold": np.full(shape, 0.5, np.float32)}
        folder = written(tmp_path / f"in{len(shape)}", layer(**one))
        certified(folder, tmp_path / f"out{len(shape)}")
        assert np.array_equal(load(folder).tensors["threshold"].all(), np.full(64, 0.5))


def test_thresholds_of_zero_stay_and_those_below_have_no_standard_form(tmp_path: Path) -> None:
    threshold = layer("threshold")["activation_function.threshold"]
    threshold[5], threshold[6] = 0.0, np.nan
    kept = load(written(tmp_path / "a", layer(**{"activation_function.threshold": threshold})))
    assert np.array_equal(kept.tensors["threshold"].all(), threshold, equal_nan=True)
    threshold[5] = -0.1
    below = written(tmp_path / "b", layer(**{"activation_function.threshold": threshold}))
    with pytest.raises(UnsupportedArchitecture, match="below zero"):
        load(below)


def test_a_top_k_that_keeps_negative_values_fails_its_certificate(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", layer(k=np.array(60)))
    assert "negative" in inspect(folder).get("warning")
    with pytest.raises(CertificateFailed):
        convert(folder, tmp_path / "out", "mistudio")


# --- what config.yaml and names tell --------------------------------------------------------------


def test_config_yaml_names_the_hooks_and_the_model(tmp_path: Path) -> None:
    info = inspect(written(tmp_path, layer(), batch_size=8192, d_model=16, d_feature=64))
    assert info.get("hook_name") == "blocks.3.hook_resid_mid"
    assert info.get("hook_name_out") == "blocks.3.mlp.hook_out"
    assert (info.get("layer"), info.get("hook_type")) == (3, "transcoder")
    assert info.get("model_name") == "meta-llama/Llama-3.2-1B"
    assert info.get("context_size") is None  # batch_size is none
    assert info.files == [FILE, "config.yaml", "wandb-config.yaml"]


def test_the_published_sets_without_a_config_are_known_by_their_repository(tmp_path: Path) -> None:
    folder = written(tmp_path, layer(), config=None, d_model=16)
    info = inspect(folder, repo_id="mwhanna/qwen3-14b-transcoders-lowl0")
    assert info.get("model_name") == "Qwen/Qwen3-14B"
    assert info.facts["model_name"].origin == Origin.PATH
    assert info.get("hook_name") == "blocks.3.mlp.hook_in"
    assert not info.missing
    other = inspect(folder, repo_id="someone/qwen3-0.6b-experiment")
    assert (other.get("model_name"), other.get("hook_name")) == ("Qwen/Qwen3-0.6B", None)


def test_k_is_in_config_yaml_or_asked_for(tmp_path: Path) -> None:
    told = {**CONFIG, "activation": "topk"}
    folder = written(tmp_path / "in", layer(), config=told)
    assert asked(folder) == ["k"]
    assert certified(folder, tmp_path / "a", facts={"k": 4}).get("k") == 4
    published = inspect(folder, repo_id="facebook/crv-8b-instruct-transcoders", given={"k": 5})
    assert published.get("k") == 5
    with pytest.raises(BadFact):
        inspect(folder, given={"k": 65})
    written(folder, layer(), config={**told, "k": 7})
    assert certified(folder, tmp_path / "b").get("k") == 7


@pytest.mark.parametrize(
    ("kinds", "config", "error"),
    [
        ((), {"activation": "topk", "k": 65}, BrokenFile),
        ((), {"activation": "topk", "k": "many"}, BrokenFile),
        (("k",), {"activation": "topk", "k": 7}, BrokenFile),
        (("k",), {"activation": "relu"}, BrokenFile),
        (("threshold",), {"activation": "topk", "k": 6}, BrokenFile),
        (("threshold", "k"), {}, BrokenFile),
        ((), {"activation": "jump_relu"}, BrokenFile),
        ((), {"activation": "gelu"}, UnsupportedArchitecture),
        ((), {"model_name": ["a"]}, BrokenFile),
        ((), {"feature_input_hook": 7}, BrokenFile),
    ],
)
def test_a_config_that_the_tensors_contradict_is_refused(
    kinds: tuple[str, ...], config: dict[str, Any], error: type[SaeError], tmp_path: Path
) -> None:
    with pytest.raises(error):
        inspect(written(tmp_path, layer(*kinds), config={**CONFIG, **config}))


def test_other_widths_in_the_wandb_config_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="d_feature is 65"):
        inspect(written(tmp_path, layer(), d_feature=65))


def test_a_statement_that_the_tensors_contradict_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, layer("threshold"))
    for stated in ("transcoder", "jumprelu", "topk_transcoder"):
        with pytest.raises(BadFact):
            inspect(folder, given={"architecture": stated})


def test_unknown_missing_and_misshapen_tensors_are_refused(tmp_path: Path) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"stranger": some(3)},
        {"b_dec": None},
        {"W_dec": None},
        {"b_enc": some(64, 1)},
        {"W_skip": some(16, 15)},
        {"activation_function.threshold": some(63)},
        {"k": some(2)},
        {"k": np.array(np.nan)},
        {"W_dec": some(64, 2, 16)},
    )
    for number, changes in enumerate(wrong):
        with pytest.raises(BrokenFile):
            inspect(written(tmp_path / str(number), layer(**changes)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_weights_keep_their_bits(dtype: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file as save_torch

    narrow = getattr(torch, dtype)
    made = {name: torch.from_numpy(it).to(narrow) for name, it in layer("skip").items()}
    written(tmp_path / "in", layer())
    save_torch(made, tmp_path / "in" / FILE)
    assert certified(tmp_path / "in", tmp_path / "out").get("dtype") == dtype
    tensors = load(tmp_path / "out").tensors
    assert np.array_equal(tensors["W_enc"].all(), made["W_enc"].T.double().numpy())
