"""Writing dictionary_learning: what its own classes load, and what none of them computes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saes.converter import convert, inspect, load
from saes.errors import CannotRepresent
from saes.formats import FolderSource, by_slug
from saes.formats.base import Fact, Origin, Sae
from saes.progress import Silent
from saes.tensors import Held
from tests.fixtures import Array, write_saelens
from tests.formats.dictionaries import (
    D_IN,
    D_SAE,
    STATES,
    WHERE,
    each_class,
    some,
    truth,
    write,
)

WRITTEN = {
    ("standard", True): "AutoEncoder",
    ("standard", False): "AutoEncoderNew",
    ("gated", True): "GatedAutoEncoder",
    ("topk", True): "AutoEncoderTopK",
    ("jumprelu", False): "JumpReluAutoEncoder",
    ("jumprelu", True): "BatchTopKSAE",
}


@pytest.mark.parametrize(("architecture", "centred"), WRITTEN)
def test_what_is_written_is_what_the_library_loads(
    architecture: str, centred: bool, tmp_path: Path
) -> None:
    name = WRITTEN[architecture, centred]
    changes: dict[str, Any] = {"apply_b_dec_to_input": centred}
    if name == "BatchTopKSAE":
        changes["threshold"] = np.full(D_SAE, 0.75, np.float32)
    source = write_saelens(tmp_path / "in", architecture, **changes)
    done = convert(source, tmp_path / "out", "dictionary_learning")
    assert done.certificate is not None
    assert done.certificate.passed
    state = torch.load(tmp_path / "out" / "ae.pt", weights_only=True)
    assert {key: (it.shape, it.dtype) for key, it in state.items()} == {
        key: (it.shape, it.dtype) for key, it in STATES[name].items()
    }
    trainer = json.loads((tmp_path / "out" / "config.json").read_text())["trainer"]
    assert (trainer["dict_class"], trainer["activation_dim"], trainer["dict_size"]) == (
        name, D_IN, D_SAE,
    )  # fmt: skip
    assert trainer.get("k") == (state["k"].item() if "k" in state else None)
    before, after = load(source).tensors, load(tmp_path / "out").tensors
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key].all(), after[key].all()) for key in before)
    x = some(20, D_IN).double()
    acts, _ = truth(name, {key: it.double() for key, it in state.items()}, x)
    saelens = by_slug("saelens").reference(FolderSource(source), ".", {})
    assert np.allclose(saelens.encode(x.numpy(), lambda count: None), acts.numpy())


@each_class
def test_every_class_but_matryoshka_comes_back_as_itself(name: str, tmp_path: Path) -> None:
    root = write(tmp_path / "in", name)
    convert(root, tmp_path / "out", "dictionary_learning", WHERE)
    before, after = inspect(root, WHERE), inspect(tmp_path / "out")
    known = {it: fact.value for it, fact in before.facts.items() if it != "training_architecture"}
    assert known == {it: after.get(it) for it in known}
    if name != "MatryoshkaBatchTopKSAE":
        state = torch.load(tmp_path / "out" / "ae.pt", weights_only=True)
        lasting = {it for it in STATES[name] if (name, it) != ("AutoEncoderTopK", "threshold")}
        assert all(torch.equal(state[it], STATES[name][it]) for it in lasting)


def sae_with(tmp_path: Path, name: str = "AutoEncoder", **facts: Any) -> Sae:
    sae = load(write(tmp_path / "in", name), WHERE)
    told = {key: Fact(value, Origin.FILE) for key, value in facts.items()}
    return replace(sae, info=replace(sae.info, facts={**sae.info.facts, **told}))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("AutoEncoder", "normalize_activations", "layer_norm"),
        ("AutoEncoder", "reshape_activations", "hook_z"),
        ("AutoEncoderTopK", "rescale_acts_by_decoder_norm", True),
        ("AutoEncoderTopK", "apply_b_dec_to_input", False),
        ("GatedAutoEncoder", "apply_b_dec_to_input", False),
        ("JumpReluAutoEncoder", "apply_b_dec_to_input", True),
    ],
)
def test_what_no_class_computes_is_refused_by_its_field(
    name: str, field: str, value: Any, tmp_path: Path
) -> None:
    with pytest.raises(CannotRepresent, match=field):
        by_slug("dictionary_learning").save(  # type: ignore[attr-defined]
            sae_with(tmp_path, name, **{field: value}), tmp_path, Silent()
        )


def test_float64_would_lose_digits_and_is_refused(tmp_path: Path) -> None:
    sae = sae_with(tmp_path)
    wide: dict[str, Any] = {key: Held(it.all(), "F64") for key, it in sae.tensors.items()}
    with pytest.raises(CannotRepresent, match="dtype"):
        by_slug("dictionary_learning").save(  # type: ignore[attr-defined]
            replace(sae, tensors=wide), tmp_path, Silent()
        )


def test_an_unknown_k_of_training_is_written_as_no_limit_and_not_read_as_a_fact(
    tmp_path: Path,
) -> None:
    threshold: Array = np.full(D_SAE, 0.75, np.float32)
    source = write_saelens(tmp_path / "in", "jumprelu", threshold=threshold)
    convert(source, tmp_path / "out", "dictionary_learning")
    state = torch.load(tmp_path / "out" / "ae.pt", weights_only=True)
    assert state["k"].item() == D_SAE
    assert inspect(tmp_path / "out").get("k") is None


@pytest.mark.parametrize("model", ["google/gemma-3-1b-pt", "gpt2-small"])
@pytest.mark.parametrize(
    "hook", ["hook_embed", "blocks.3.hook_mlp_out", "blocks.3.ln2.hook_normalized"]
)
def test_model_and_hook_come_back_as_they_were(model: str, hook: str, tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", "standard")
    facts = {"model_name": model, "hook_name": hook}
    convert(source, tmp_path / "out", "dictionary_learning", facts=facts)
    info = inspect(tmp_path / "out")
    assert (info.get("model_name"), info.get("hook_name")) == (model, hook)
    trainer = json.loads((tmp_path / "out" / "config.json").read_text())["trainer"]
    assert trainer["lm_name"] == model
