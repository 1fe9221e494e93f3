"""Lazy tensors: exact to the bit where nothing is computed, rounded once where something is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from saes.tensors import (
    BITS,
    Diagonal,
    Held,
    Stored,
    Turner,
    row_norms,
    to_bits,
    to_floats,
    vector_times,
)


@pytest.mark.parametrize("dtype", BITS)
def test_every_pattern_of_bits_survives_a_transpose(dtype: str, tmp_path: Path) -> None:
    width = BITS[dtype].itemsize
    bits = np.random.default_rng(0).integers(
        0, 2 ** (8 * width), (70, 191), BITS[dtype].newbyteorder("=")
    )
    bits.tofile(tmp_path / "raw")
    turned = Stored(tmp_path / "raw", 0, dtype, (70, 191)).transposed()
    assert turned.shape == (191, 70)
    turn = Turner()
    for index in ((slice(3, 180), slice(5, 70)), (slice(3, 80), slice(5, 30))):
        dense = turn(turned.block(*index))
        assert dense.flags.c_contiguous
        assert np.array_equal(dense, bits.T[index])


def test_bf16_numbers_are_torch_s() -> None:
    every = np.arange(2**16, dtype=np.uint16)
    ours = to_floats(every, "BF16")
    theirs = torch.from_numpy(every.view(np.int16)).view(torch.bfloat16).double().numpy()
    assert np.array_equal(ours, theirs, equal_nan=True)
    number = ~np.isnan(ours)
    assert np.array_equal(to_bits(ours[number], "BF16"), every[number])


def test_rounding_to_bf16_goes_to_the_nearest_even_as_in_torch() -> None:
    random = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    halves = to_floats(np.arange(0x3F80, 0x4080, dtype=np.uint16), "BF16") * (1 + 2**-9)
    singles = np.concatenate([random, halves, [0.0, -0.0, np.inf, -np.inf, 3.4e38, 1e-45]])
    singles = singles.astype(np.float32)
    theirs = torch.from_numpy(singles).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(to_bits(singles.astype(np.float64), "BF16"), theirs)
    assert np.isnan(to_floats(to_bits(np.array([np.nan]), "BF16"), "BF16")).all()


def test_a_double_is_rounded_to_bf16_once() -> None:
    """Just above the middle of two bf16 numbers, but in float32 exactly the middle."""
    above = np.array([1 + 2**-8 + 2**-40])
    assert to_floats(to_bits(above, "BF16"), "BF16") == 1 + 2**-7


def test_scaling_by_vectors_follows_its_axis_through_a_transpose() -> None:
    array = np.arange(12.0).reshape(3, 4)
    held, rows, columns = Held(array, "F32"), np.array([1.0, 2, 3]), np.array([1.0, 2, 3, 4])
    assert np.array_equal(held.scaled(rows).all(), array * rows[:, None])
    assert np.array_equal(held.scaled(columns, axis=1).all(), array * columns)
    part = held.scaled(columns, axis=1).transposed().floats(slice(1, 3), slice(0, 2))
    assert np.array_equal(part, (array * columns).T[1:3, 0:2])


def test_narrow_types_are_widened_by_arithmetic() -> None:
    narrow = Held(np.ones(3), "BF16")
    assert narrow.scaled(1 / 3).dtype == "F32"
    assert narrow.plus(narrow).all().tolist() == [2, 2, 2]
    assert (narrow.cast("F64").dtype, narrow.cast("BF16")) == ("F64", narrow)


def test_sums_over_panels() -> None:
    array = np.random.default_rng(0).standard_normal((50, 7))
    held = Held(array, "F64")
    assert np.allclose(row_norms(held), np.linalg.norm(array, axis=1))
    assert np.allclose(vector_times(np.arange(50.0), held), np.arange(50.0) @ array)


def test_a_diagonal() -> None:
    assert Diagonal(2.0, 3, "F32").all().tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert Diagonal(2.0, 3, "F32").floats(slice(1, 2), slice(0, 3)).tolist() == [[0, 2, 0]]
