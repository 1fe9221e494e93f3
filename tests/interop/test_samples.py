"""Every sample that SAELens can hold, converted and computed by the real sae-lens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from saes.converter import convert, load
from saes.errors import CannotRepresent, SaeError, UnsupportedArchitecture
from tests.fixtures import ALL_SAMPLES, Array, Sample
from tests.interop.sides import assert_near, theirs, truth, weights


def fits(sample: Sample) -> bool:
    try:
        load(sample.repo, sample.where, sample.repo_id, sample.facts, to="saelens")
    except SaeError:
        return False
    return True


FITTING = [sample for sample in ALL_SAMPLES if fits(sample)]
OTHERS = [sample for sample in ALL_SAMPLES if sample not in FITTING]


def converted(sample: Sample, folder: Path) -> Path:
    done = convert(sample.repo, folder, "saelens", sample.where, sample.repo_id, sample.facts)
    assert done.certificate is not None
    assert done.certificate.passed
    return folder


def computed(folder: Path, sample: Sample) -> tuple[Array, Array]:
    sae = theirs(folder)
    x = torch.from_numpy(sample.truth["x"]).double().reshape(sample.meta["x_call_shape"])
    with torch.no_grad():
        acts, recon = sae.encode(x), sae(x)
    return acts.numpy().ravel(), recon.numpy().ravel()


@pytest.mark.parametrize("sample", FITTING, ids=lambda sample: sample.name)
def test_sae_lens_computes_the_truth_from_our_conversion(sample: Sample, tmp_path: Path) -> None:
    assert_near(computed(converted(sample, tmp_path), sample), truth(sample))


@pytest.mark.parametrize("sample", FITTING, ids=lambda sample: sample.name)
def test_sae_lens_holds_the_tensors_that_we_read(sample: Sample, tmp_path: Path) -> None:
    found = weights(theirs(converted(sample, tmp_path), dtype=None))
    read = load(sample.repo, sample.where, sample.repo_id, sample.facts).tensors
    assert found.keys() == read.keys()
    for name, tensor in read.items():
        assert np.array_equal(found[name], tensor.all()), name


@pytest.mark.parametrize("sample", OTHERS, ids=lambda sample: sample.name)
def test_what_sae_lens_cannot_hold_is_refused(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises((CannotRepresent, UnsupportedArchitecture)):
        converted(sample, tmp_path)
    assert not list(tmp_path.iterdir())
