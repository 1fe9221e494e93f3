"""config.json beside model.safetensors or model.pt, as miStudio's manual describes it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from saes.converter import inspect, load
from saes.errors import BrokenFile, SaeError, UnknownFormat, UnsupportedArchitecture
from saes.formats import by_slug
from saes.formats.base import Origin, Tree
from tests.fixtures import Array
from tests.fixtures.mistudio import asked, certified, linear, some

CONFIG = {
    "d_in": 16,
    "d_sae": 64,
    "dtype": "float32",
    "model_name": "google/gemma-2-2b",
    "hook_name": "blocks.12.hook_resid_post",
    "architecture": "standard",
    "normalize_activations": "constant_norm_rescale",
}


def documented(
    folder: Path, made: dict[str, Array], file: str = "model.safetensors", **changes: Any
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: torch.from_numpy(array.copy()) for name, array in made.items()}
    if file.endswith(".pt"):
        torch.save(stored, folder / file)
    else:
        save_file(stored, folder / file)
    told = {name: it for name, it in {**CONFIG, **changes}.items() if it is not None}
    (folder / "config.json").write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize("file", ["model.safetensors", "model.pt"])
@pytest.mark.parametrize("biases", [("decoder_bias", "decoder.bias"), ("decoder_bias",)])
def test_it_is_read_with_what_its_config_says(
    biases: tuple[str, ...], file: str, tmp_path: Path
) -> None:
    folder = documented(tmp_path / "in", linear(*biases), file)
    info = certified(folder, tmp_path / "out")
    assert info.files == [file, "config.json"]
    assert (info.get("generation"), info.get("layer")) == (3 - len(biases), 12)
    assert info.get("apply_b_dec_to_input") is (len(biases) == 1)
    assert info.get("hook_name") == "blocks.12.hook_resid_post"
    assert info.facts["normalize_activations"].value == "constant_norm_rescale"
    assert info.facts["normalize_activations"].origin == Origin.FILE


def test_what_its_config_does_not_say_is_asked_for(tmp_path: Path) -> None:
    made = linear("decoder_bias", tied=True)
    assert asked(documented(tmp_path / "a", made, normalize_activations=None)) == [
        "generation",
        "normalize_activations",
    ]
    second = documented(tmp_path / "b", made, architecture="standard_saelens")
    assert certified(second, tmp_path / "out").get("generation") == 2
    topk = documented(tmp_path / "c", linear("b_pre"), architecture="topk")
    assert asked(topk) == ["k"]


@pytest.mark.parametrize(
    "told", [{"top_k_sparsity": 10.0}, {"hyperparameters": {"top_k_sparsity": 10.0}}, {"k": 6}]
)
def test_top_k_in_percent_or_as_a_number(told: dict[str, Any], tmp_path: Path) -> None:
    folder = documented(tmp_path / "in", linear("decoder_bias", "decoder.bias"), **told)
    info = certified(folder, tmp_path / "out")
    assert (info.get("architecture"), info.get("k")) == ("topk", 6)


def test_the_second_generation_ignored_k_outside_its_own_class(tmp_path: Path) -> None:
    folder = documented(tmp_path / "in", linear("decoder_bias"), hyperparameters={"top_k": 6})
    info = certified(folder, tmp_path / "out")
    assert (info.get("architecture"), info.get("k")) == ("standard", None)
    named = documented(tmp_path / "b", linear("b_pre"), architecture="TopKSAE", k=6)
    assert certified(named, tmp_path / "c").get("k") == 6


def test_jumprelu_asks_for_its_generation(tmp_path: Path) -> None:
    made = {"W_enc": some(64, 16), "W_dec": some(16, 64), "b_enc": some(64), "b_dec": some(16)}
    made["activation.log_threshold"] = some(64)
    folder = documented(tmp_path / "in", made, architecture="jumprelu")
    assert asked(folder) == ["generation"]
    certified(folder, tmp_path / "out", generation=1)


def test_only_its_config_tells_a_skip_autoencoder_or_a_transcoder(tmp_path: Path) -> None:
    both = linear("decoder_bias", "decoder.bias")
    skip = documented(tmp_path / "a", both, architecture="skip", normalize_activations="none")
    assert certified(skip, tmp_path / "b").get("architecture") == "skip_transcoder"
    layers = linear("decoder.bias", "b_enc_center")
    plain = documented(tmp_path / "c", layers, architecture="transcoder")
    assert certified(plain, tmp_path / "d").get("architecture") == "transcoder"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"architecture": "gated"}, UnsupportedArchitecture),
        ({"architecture": "jumprelu"}, BrokenFile),
        ({"architecture": ["standard"]}, BrokenFile),
        ({"d_sae": 65}, BrokenFile),
        ({"d_in": "16"}, BrokenFile),
        ({"k": 65}, BrokenFile),
        ({"top_k_sparsity": -3}, BrokenFile),
        ({"normalize_activations": "sometimes"}, BrokenFile),
        ({"hyperparameters": 7}, BrokenFile),
        ({"hook_name": "blocks.\x00"}, BrokenFile),
    ],
)
def test_a_config_that_is_wrong_is_refused(
    changes: dict[str, Any], error: type[SaeError], tmp_path: Path
) -> None:
    with pytest.raises(error, match=r"config\.json|features"):
        inspect(documented(tmp_path, linear("decoder_bias", "decoder.bias"), **changes))


@pytest.mark.parametrize("file", ["model.safetensors", "model.pt"])
def test_unknown_tensors_are_refused_and_linear_layers_alone_are_not_ours(
    file: str, tmp_path: Path
) -> None:
    strange = linear("decoder_bias") | {"stranger": some(3)}
    with pytest.raises(BrokenFile, match="stranger"):
        load(documented(tmp_path / "a", strange, file))
    with pytest.raises(UnknownFormat):
        inspect(documented(tmp_path / "b", {"wte.weight": some(4, 4)}, file), ".")


def test_a_language_model_is_no_sae_by_its_names() -> None:
    names = ["config.json", "model.safetensors"]
    find = by_slug("mistudio").find
    assert find(Tree(names)) == ["."]
    assert find(Tree(f"deep/{name}" for name in ("config.json", "model.pt"))) == ["deep"]
    assert not find(Tree([*names, "tokenizer.json"]))
    assert not find(Tree(["model.safetensors"]))
    assert not find(Tree(names, "someone/vision-model"))
    assert find(Tree(names, "someone/mistudio-sae")) == ["."]
