"""Bare weights: what tensors tell is taken from them, and the rest is asked for, never guessed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saes.converter import convert, inspect, load
from saes.errors import BadFact, BrokenFile, NeedsFacts, UnknownFormat, UnsafeFormat
from saes.formats import FolderSource, find_saes, identify
from saes.formats.bare import Bare
from saes.formats.base import Origin, Tree
from tests.formats.cuts import assert_cut_is_broken
from tests.formats.torch_files import (
    Forward,
    Tensors,
    assert_computes,
    double,
    linear,
    renamed,
    save,
    some,
)

LINEAR = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
COMMUNITY = ("W_enc", "b_enc", "W_dec", "b_dec")
PLAIN = {"architecture": "standard", "apply_b_dec_to_input": False, "normalize_activations": "none"}


def community(d_in: int = 16, *, turned: bool = False) -> Tensors:
    made = renamed(linear(d_in), *COMMUNITY)
    if turned:
        return made
    return {name: it.T.contiguous() if it.ndim == 2 else it for name, it in made.items()}


def forward(
    made: Tensors,
    activate: Callable[[torch.Tensor], torch.Tensor] = torch.relu,
    centre: bool = False,
) -> Forward:
    it = double(made)

    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        centred = x - it["b_dec"] if centre else x
        acts = activate(centred @ it["encoder"].T + it["b_enc"])
        return acts, acts @ it["decoder"].T + it["b_dec"]

    return run


def largest(k: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def activate(before: torch.Tensor) -> torch.Tensor:
        top = torch.topk(before, k, dim=-1)
        return torch.zeros_like(before).scatter(-1, top.indices, torch.relu(top.values))

    return activate


def asked(path: Path, given: dict[str, Any] | None = None) -> list[str]:
    return [fact.name for fact in inspect(path, given=given).missing]


@pytest.mark.parametrize(
    "tree",
    [
        renamed(linear(), *LINEAR),
        renamed(linear(), "encoder.weight", "encoder.bias", "decoder.weight", "pre_bias"),
        {f"state_dict.{name}": it for name, it in renamed(linear(), *LINEAR).items()},
        community(),
        community(turned=True),
    ],
    ids=["linear", "pre_bias", "nested", "community", "turned"],
)
def test_every_question_is_asked_and_every_answer_used(tree: Tensors, tmp_path: Path) -> None:
    save(tmp_path / "in" / "weights.pt", tree)
    names = ["architecture", "apply_b_dec_to_input", "normalize_activations"]
    assert (inspect(tmp_path / "in").format, asked(tmp_path / "in")) == ("bare", names)
    with pytest.raises(NeedsFacts, match="architecture"):
        convert(tmp_path / "in", tmp_path / "out")
    runs = {
        "one": (PLAIN, forward(linear())),
        "two": ({**PLAIN, "apply_b_dec_to_input": "true"}, forward(linear(), centre=True)),
        "three": ({**PLAIN, "architecture": "topk", "k": 6}, forward(linear(), largest(6))),
    }
    for target, (facts, run) in runs.items():
        assert_computes(run, tmp_path / "in", "weights.pt", tmp_path / target, facts=facts)


def test_the_number_of_features_is_asked_for_once_it_is_a_topk(tmp_path: Path) -> None:
    save(tmp_path / "weights.pt", community())
    assert asked(tmp_path, {**PLAIN, "architecture": "topk"}) == ["k"]
    with pytest.raises(BadFact, match="65"):
        inspect(tmp_path, given={**PLAIN, "architecture": "abstopk", "k": 65})


@pytest.mark.parametrize("orientation", ["d_in,d_sae", "d_sae,d_in"])
def test_of_a_square_one_the_orientation_is_asked_for(orientation: str, tmp_path: Path) -> None:
    turned = orientation == "d_sae,d_in"
    save(tmp_path / "in" / "weights.pt", community(64, turned=turned))
    assert "orientation" in asked(tmp_path / "in")
    facts = {**PLAIN, "orientation": orientation}
    run = forward(linear(64))
    assert_computes(run, tmp_path / "in", "weights.pt", tmp_path / "out", facts=facts)


def test_every_answer_is_kept_with_the_conversion(tmp_path: Path) -> None:
    save(tmp_path / "in" / "weights.pt", community(64))
    facts = {
        "architecture": "topk",
        "k": 5,
        "apply_b_dec_to_input": True,
        "normalize_activations": "layer_norm",
        "orientation": "d_in,d_sae",
    }
    done = convert(tmp_path / "in", tmp_path / "out", to="mistudio", facts=facts)
    assert inspect(tmp_path / "out").facts == done.info.facts
    kept = {
        name: fact.value for name, fact in done.info.facts.items() if fact.origin == Origin.USER
    }
    assert kept == facts


def test_of_square_linear_layers_it_is_known(tmp_path: Path) -> None:
    save(tmp_path / "in" / "weights.pt", renamed(linear(64), *LINEAR))
    assert "orientation" not in asked(tmp_path / "in")
    run = forward(linear(64))
    assert_computes(run, tmp_path / "in", "weights.pt", tmp_path / "out", facts=PLAIN)


def test_a_threshold_tells_jumprelu(tmp_path: Path) -> None:
    threshold = some(64).abs()
    save(tmp_path / "in" / "weights.pt", {**community(), "threshold": threshold})
    assert inspect(tmp_path / "in").get("architecture") == "jumprelu"
    facts = {key: value for key, value in PLAIN.items() if key != "architecture"}
    assert asked(tmp_path / "in") == list(facts)

    def jump(before: torch.Tensor) -> torch.Tensor:
        return torch.relu(before) * (before > threshold.double())

    run = forward(linear(), jump)
    assert_computes(run, tmp_path / "in", "weights.pt", tmp_path / "out", facts=facts)


def test_gates_tell_gated(tmp_path: Path) -> None:
    made = community(turned=True)
    del made["b_enc"]
    gates = {
        "b_gate": some(64, seed=5) - 1,
        "b_mag": some(64, seed=6),
        "r_mag": some(64, seed=7) / 4,
    }
    save(tmp_path / "in" / "weights.pt", {**made, **gates})
    facts = {"apply_b_dec_to_input": True, "normalize_activations": "none"}
    it = double({**linear(), **gates})

    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        product = (x - it["b_dec"]) @ it["encoder"].T
        gate = product + it["b_gate"] > 0
        acts = gate * torch.relu(product * torch.exp(it["r_mag"]) + it["b_mag"])
        return acts, acts @ it["decoder"].T + it["b_dec"]

    assert inspect(tmp_path / "in").get("architecture") == "gated"
    assert_computes(run, tmp_path / "in", "weights.pt", tmp_path / "out", facts=facts)


def test_another_width_at_the_end_tells_a_transcoder(tmp_path: Path) -> None:
    made = {**linear(), "decoder": some(24, 64), "b_dec": some(24)}
    save(tmp_path / "in" / "weights.pt", renamed(made, *LINEAR))
    (kind, _) = inspect(tmp_path / "in").missing[:2]
    assert set(kind.readings) == {"transcoder", "topk_transcoder"}
    facts = {"architecture": "transcoder", "normalize_activations": "none"}
    assert asked(tmp_path / "in", facts) == []
    assert_computes(forward(made), tmp_path / "in", "weights.pt", tmp_path / "out", facts=facts)
    for fact, value in {
        "apply_b_dec_to_input": True,
        "normalize_activations": "layer_norm",
    }.items():
        with pytest.raises(BadFact, match=fact):
            inspect(tmp_path / "in", given={**facts, fact: value})
    (question,) = inspect(tmp_path / "in", given={"architecture": "transcoder"}).missing
    assert (question.name, set(question.readings)) == ("normalize_activations", {"none"})


def test_a_path_beside_it_tells_a_skip_transcoder(tmp_path: Path) -> None:
    skip = some(16, 16)
    save(tmp_path / "in" / "weights.pt", {**community(), "W_skip": skip})
    facts = {"architecture": "skip_transcoder", "normalize_activations": "none"}

    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        acts, recon = forward(linear())(x)
        return acts, recon + x @ skip.double().T

    assert_computes(run, tmp_path / "in", "weights.pt", tmp_path / "out", facts=facts)


@pytest.mark.parametrize(
    "given",
    [
        {"architecture": "standard", "k": 3},
        {"orientation": "d_sae,d_in"},
        {"norm_scaling_factor": 2},
        {"generation": 1},
    ],
)
def test_a_statement_that_would_change_nothing_is_refused(
    given: dict[str, Any], tmp_path: Path
) -> None:
    save(tmp_path / "weights.pt", community())
    with pytest.raises(BadFact, match=[*given][-1]):
        inspect(tmp_path, given=given)
    assert not inspect(tmp_path, given={**PLAIN, "orientation": "d_in,d_sae"}).missing


@pytest.mark.parametrize("architecture", ["gated", "jumprelu", "skip_transcoder"])
def test_what_the_tensors_cannot_be_no_user_states(architecture: str, tmp_path: Path) -> None:
    save(tmp_path / "weights.pt", community())
    with pytest.raises(BadFact, match=architecture):
        inspect(tmp_path, given={"architecture": architecture})


def test_safetensors_and_npz_are_read_when_they_are_named(tmp_path: Path) -> None:
    save_file(community(), tmp_path / "weights.safetensors")
    arrays: dict[str, Any] = {name: it.numpy() for name, it in community().items()}
    np.savez(tmp_path / "weights.npz", **arrays)
    for name in ("weights.safetensors", "weights.npz"):
        assert inspect(tmp_path, name).format == "bare"
        assert np.array_equal(
            load(tmp_path, name, facts=PLAIN).tensors["W_enc"].all(), linear()["encoder"].T.double()
        )


@pytest.mark.parametrize("extra", ["surprise", "decoder.bias"])
def test_an_unknown_tensor_is_refused(extra: str, tmp_path: Path) -> None:
    save(tmp_path / "weights.pt", {**community(), extra: some(16)})
    with pytest.raises(BrokenFile, match=extra):
        inspect(tmp_path)


def test_a_file_without_encoder_and_decoder_is_unknown(tmp_path: Path) -> None:
    save(tmp_path / "weights.pt", {"lm_head.weight": some(5, 5), "embed.weight": some(5, 5)})
    with pytest.raises(UnknownFormat):
        identify(FolderSource(tmp_path), "weights.pt")
    save(
        tmp_path / "weights.pt",
        {"W_enc": some(4), "W_dec": some(4), "b_enc": some(4), "b_dec": some(4)},
    )
    with pytest.raises(BrokenFile):
        inspect(tmp_path)


def test_code_in_a_file_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "canary",))

    save(tmp_path / "weights.pt", {**community(), "x": Evil()})
    with pytest.raises(UnsafeFormat):
        inspect(tmp_path)
    assert not (tmp_path / "canary").exists()


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    path = save(tmp_path / "weights.pt", community())
    assert_cut_is_broken(path, lambda: inspect(tmp_path))


def test_names_of_weights_are_found_and_leftovers_are_not() -> None:
    saes = ["sae.pt", "layer_5/final.pt", "a/b/weights.pth", "run3_l12.pt", "autoencoder/model.pt"]
    leftovers = [
        "optimizer_0.pt", "state.pt", "trainer_state.pt", "rank_0_state.pt", "rng_state.pth",
        "training_args.pt", "pytorch_model.bin", "eval_results.pt", "lr_scheduler_0.pt", "model.pt",
        "checkpoint.pth", "activations.pt", "sparsity.safetensors", "model.safetensors", "x.npz",
        "tokens.pt", "feature_frequencies.pt", "config.json", "weights.pt.txt",
        "v5_32k.pt/README.md",
    ]  # fmt: skip
    assert Bare().find(Tree([*saes, *leftovers])) == sorted(saes)
    assert Bare().find(Tree(["model.pt"], "someone/gpt2-sae")) == ["model.pt"]


def test_what_another_family_finds_is_not_found_twice() -> None:
    names = ["a/ae.pt", "a/config.json", "layer0.sae.pt", "x.pt", "x_cfg.json", "loose.pt"]
    found = {it.where: it.format for it in find_saes(names)}
    assert found["loose.pt"] == "bare"
    assert [where for where, slug in found.items() if slug == "bare"] == ["loose.pt"]
