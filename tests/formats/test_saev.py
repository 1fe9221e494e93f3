"""saev: a line of JSON in front of a PyTorch file, in each of its schemas."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from saes.converter import convert, inspect, load
from saes.errors import BrokenFile, CannotRepresent, UnsupportedArchitecture
from saes.formats import find_saes
from tests.formats.cuts import assert_cut_is_broken
from tests.formats.torch_files import (
    Forward,
    assert_computes,
    double,
    linear,
    save,
    some,
)

FLAT = {"d_vit": 16, "exp_factor": 4, "sparsity_coeff": 4e-4, "ghost_grads": False, "seed": 42}
SIZES = {"d_model": 16, "d_sae": 64}


def first(cls: str, **params: Any) -> dict[str, Any]:
    """The first files of schema 1: the class tells the activation."""
    return {"schema": 1, "cls": cls, "cfg": {"d_vit": 16, "exp_factor": 4, **params}}


def later(cls: str, schema: int = 4, **params: Any) -> dict[str, Any]:
    activation = {"cls": cls, "params": params}
    return {"schema": schema, "cfg": {**SIZES, "activation": activation}, "lib": "0.3"}


def tree(d_in: int = 16, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    made = linear(d_in)
    return {
        "W_enc": made["encoder"].T.contiguous(),
        "b_enc": made["b_enc"],
        "W_dec": made["decoder"].T.contiguous(),
        "b_dec": made["b_dec"],
        **more,
    }


def write(path: Path, header: Any, weights: dict[str, torch.Tensor] | None = None) -> Path:
    return save(path, weights or tree(), before=json.dumps(header).encode() + b"\n")


def forward(weights: dict[str, torch.Tensor], threshold: float = 0.0) -> Forward:
    it = double(weights)

    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        before = x @ it["W_enc"] + it["b_enc"]
        acts = torch.where(before > max(0.0, threshold), before, 0.0)
        return acts, acts @ it["W_dec"] + it["b_dec"]

    return run


@pytest.mark.parametrize(
    "header", [FLAT, first("Relu"), later("Relu"), later("Relu", schema=2)], ids=str
)
def test_relu_is_read_from_every_schema(header: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "in" / "sae.pt", header)
    assert_computes(forward(tree()), tmp_path / "in", "sae.pt", tmp_path / "out")
    info = inspect(tmp_path / "in")
    assert (info.format, info.get("architecture")) == ("saev", "standard")
    tensors = load(tmp_path / "in").tensors
    assert all(np.array_equal(tensors[name].all(), it.double()) for name, it in tree().items())


def test_a_square_sae_is_not_turned(tmp_path: Path) -> None:
    header = {"schema": 4, "cfg": {"d_model": 64, "activation": {"cls": "Relu", "params": {}}}}
    write(tmp_path / "in" / "sae.pt", header, tree(64))
    assert_computes(forward(tree(64)), tmp_path / "in", "sae.pt", tmp_path / "out")


@pytest.mark.parametrize("header", [first("TopK", top_k=5), later("TopK", top_k=5)], ids=str)
def test_its_topk_keeps_signs_and_is_never_converted(
    header: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path / "in" / "sae.pt", header)
    info = inspect(tmp_path / "in")
    assert (info.get("architecture"), info.get("k")) == ("signed_topk", 5)
    assert (info.get("d_in"), info.get("d_sae")) == (16, 64)
    assert not info.missing
    with pytest.raises(CannotRepresent, match="negative"):
        convert(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UnsupportedArchitecture):
        load(tmp_path / "in")


@pytest.mark.parametrize("threshold", [0.75, 0.0, -1.0])
def test_batchtopk_is_a_threshold_after_training(threshold: float, tmp_path: Path) -> None:
    weights = {**tree(), "activation.threshold": torch.tensor(threshold)}
    write(tmp_path / "in" / "sae.pt", later("BatchTopK", top_k=5, momentum=0.1), weights)
    assert_computes(forward(weights, threshold), tmp_path / "in", "sae.pt", tmp_path / "out")
    info = inspect(tmp_path / "in")
    assert (info.get("architecture"), info.get("training_architecture")) == (
        "jumprelu",
        "batchtopk",
    )
    assert (load(tmp_path / "in").tensors["threshold"].all() == threshold).all()


@pytest.mark.parametrize("kind", ["BatchTopK", "AbsBatchTopK", "x" * 500])
def test_what_needs_whole_batches_is_refused(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "sae.pt", later(kind, top_k=5))
    with pytest.raises(UnsupportedArchitecture, match="batches") as caught:
        inspect(tmp_path)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({**FLAT, "d_vit": 17}, "17 x 68"),
        ({**FLAT, "exp_factor": 5}, "16 x 80"),
        ({"exp_factor": 4}, "d_vit"),
        ({**FLAT, "d_vit": "16"}, "d_vit"),
        ({"schema": 4, "cfg": SIZES}, "activation"),
        ({"schema": -1, "cfg": SIZES}, "schema"),
        (later("TopK"), "top_k"),
        (later("TopK", top_k=65), "65"),
        (later("TopK", top_k=0), "top_k"),
        ([1], "JSON object"),
    ],
    ids=str,
)
def test_a_first_line_that_does_not_fit_is_broken(header: Any, why: str, tmp_path: Path) -> None:
    if isinstance(header, dict):
        write(tmp_path / "sae.pt", header)
    else:
        save(tmp_path / "sae.pt", tree(), before=b'{"schema": 1, "schema": 1}\n')
        why = "valid JSON"
    with pytest.raises(BrokenFile, match=why):
        inspect(tmp_path)


def test_unknown_tensors_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "sae.pt", later("Relu"), tree(surprise=some(3)))
    with pytest.raises(BrokenFile, match="surprise"):
        inspect(tmp_path)
    write(tmp_path / "sae.pt", later("Relu"), {**tree(), "activation.threshold": torch.tensor(0.5)})
    with pytest.raises(BrokenFile, match="threshold"):
        inspect(tmp_path)


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    path = write(tmp_path / "sae.pt", later("Relu"))
    assert_cut_is_broken(path, lambda: inspect(tmp_path))


def test_an_endless_first_line_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "sae.pt").write_bytes(b"{" + b" " * (1 << 20) + b"\n")
    with pytest.raises(BrokenFile, match="first line"):
        inspect(tmp_path)


def test_a_renamed_file_is_recognised_and_every_sae_pt_is_found(tmp_path: Path) -> None:
    write(tmp_path / "clip-24k.pt", FLAT)
    assert inspect(tmp_path).format == "saev"
    found = find_saes(["a/sae.pt", "b/sae.pt", "b/optimizer.pt", "config.json"])
    assert [(it.where, it.format) for it in found] == [("a/sae.pt", "saev"), ("b/sae.pt", "saev")]


def test_safetensors_that_begin_like_json_are_not_taken_for_it(tmp_path: Path) -> None:
    data = safetensors_bytes(tree())
    length = int.from_bytes(data[:8], "little")
    padded = 256 * 3 + ord("{")
    header = data[8 : 8 + length].rstrip().ljust(padded)
    raw = padded.to_bytes(8, "little") + header + data[8 + length :]
    (tmp_path / "sae.pt").write_bytes(raw)
    assert raw.startswith(b"{")
    assert inspect(tmp_path).format == "bare"


def test_a_file_of_the_first_versions_can_be_stated_as_centred(tmp_path: Path) -> None:
    write(tmp_path / "in" / "sae.pt", FLAT)

    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return forward(tree())(x - tree()["b_dec"].double())

    facts = {"apply_b_dec_to_input": True}
    assert_computes(run, tmp_path / "in", "sae.pt", tmp_path / "out", facts=facts)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int32])
def test_a_threshold_keeps_its_digits_whatever_the_weights_are(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    threshold = torch.tensor(1 + 1 / 1024).to(dtype)
    weights = {name: it.bfloat16() for name, it in tree().items()}
    path = tmp_path / "in" / "sae.pt"
    write(path, later("BatchTopK"), {**weights, "activation.threshold": threshold})
    run = forward(weights, float(threshold))
    assert_computes(run, tmp_path / "in", "sae.pt", tmp_path / "out")
    assert set(load(tmp_path / "in").tensors["threshold"].all()) == {float(threshold)}
