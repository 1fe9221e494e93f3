"""Every sample of every family: recognised, read bit for bit, and computing what it should."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from saes.converter import convert, inspect, load
from saes.errors import BrokenFile, CannotRepresent, NotThisFormat
from saes.formats import FORMATS, FolderSource, by_slug, find_saes, identify
from saes.formats.architectures import NOT_PLAIN, PLAIN, TOPK
from saes.formats.base import Format, Sae, WritableFormat
from saes.reference import Plain, Reference
from tests.fixtures import BY_NAME, SAMPLES, Array, Sample
from tests.formats.cuts import assert_cut_is_broken

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
WRITABLE = [family.slug for family in FORMATS if isinstance(family, WritableFormat)]
ARCHITECTURES = (*PLAIN, *NOT_PLAIN)
# The exporter lost decoder.bias; the training checkpoint's norms are folded only in the truth.
DIFFERENT = {
    "mistudio_v1_community_format": ("b_dec",),
    "saelens_training_topk_checkpoint": ("W_enc", "W_dec", "b_enc"),
}


def opened(sample: Sample) -> FolderSource:
    return FolderSource(sample.repo, sample.repo_id)


def near(value: Array, truth: Array) -> bool:
    truth = truth.reshape(value.shape)  # hook_z: the heads side by side
    return bool(np.abs(value - truth).max() <= 1e-5 * max(1.0, np.abs(truth).max()))


def neutral(sae: Sae) -> Plain:
    """The forward of the standard tensors themselves."""
    from saes import reference as plain

    def vector(name: str) -> Array:
        return sae.tensors[name].all()

    def matrix(array: Array) -> plain.Matrix:
        return plain.Matrix(lambda: iter([(0, array)]), array.shape, 8)

    info, norms = sae.info, None
    if info.get("rescale_acts_by_decoder_norm"):
        norms = np.linalg.norm(sae.tensors["W_dec"].all(), axis=1)
    architecture = info.get("architecture")
    if architecture == "gated":
        activation = plain.gated(vector("b_gate"), vector("b_mag"), vector("r_mag"))
    elif architecture in TOPK:
        activation = plain.topk(vector("b_enc"), info.get("k"), 1.0 if norms is None else norms)
    elif "threshold" in sae.tensors:
        activation = plain.jumprelu(vector("b_enc"), vector("threshold"))
    else:
        activation = plain.relu(vector("b_enc"))
    return plain.Plain(
        encoder=matrix(sae.tensors["W_enc"].all()),
        decoder=matrix(sae.tensors["W_dec"].all()),
        b_dec=vector("b_dec"),
        activation=activation,
        centre=info.get("apply_b_dec_to_input"),
        normalisation=info.get("normalize_activations"),
        weights=None if norms is None else 1 / norms,
        skip=matrix(sae.tensors["W_skip"].all().T) if "W_skip" in sae.tensors else None,
        transcodes="transcoder" in architecture,
    )


def assert_computes_the_truth(reference: Reference, sample: Sample) -> None:
    x = sample.truth["x"].astype(np.float64)
    x = x.reshape(x.shape[0], -1)
    acts = reference.encode(x, lambda count: None)
    recon = reference.decode(acts, x, lambda count: None)
    assert near(acts, sample.of_unit("acts"))
    if sample.name == "mistudio_v1_community_format":
        assert near(recon, sample.truth["alt.saelens.recon"])
    else:
        assert near(recon, sample.of_unit("recon"))


@each_sample
def test_its_own_family_recognises_it(sample: Sample) -> None:
    assert sample.where in [found.where for found in find_saes(opened(sample).tree)]
    family, info = identify(opened(sample), sample.where)
    assert (family.slug, info.format, info.where) == (sample.family, sample.family, sample.where)


@each_sample
@pytest.mark.parametrize("family", FORMATS, ids=lambda family: family.slug)
def test_every_other_family_says_not_mine(sample: Sample, family: Format) -> None:
    if family.slug != sample.family:
        with pytest.raises(NotThisFormat):
            family.probe(opened(sample), sample.where, {})


@each_sample
def test_its_tensors_are_the_standard_ones_bit_for_bit(sample: Sample) -> None:
    sae = load(sample.repo, sample.where, sample.repo_id, sample.facts)
    assert sae.tensors.keys() == sample.standard.keys()
    for name, truth in sample.standard.items():
        if name in DIFFERENT.get(sample.name, ()):
            continue
        exact = not (name == "threshold" and sample.family == "mistudio")  # an exponential
        value = sae.tensors[name].all()
        assert np.array_equal(value, truth) if exact else near(value, truth), name


@each_sample
def test_its_tensors_compute_the_truth(sample: Sample) -> None:
    sae = load(sample.repo, sample.where, sample.repo_id, sample.facts)
    assert_computes_the_truth(neutral(sae), sample)


@each_sample
def test_its_reference_computes_the_truth(sample: Sample) -> None:
    family = by_slug(sample.family)
    assert_computes_the_truth(family.reference(opened(sample), sample.where, sample.facts), sample)


@each_sample
def test_its_conversion_is_certified_and_reads_back_bit_for_bit(
    sample: Sample, tmp_path: Path
) -> None:
    done = convert(sample.repo, tmp_path, "mistudio", sample.where, sample.repo_id, sample.facts)
    assert done.certificate is not None
    assert done.certificate.passed
    before, after = load(sample.repo, sample.where, sample.repo_id, sample.facts), load(tmp_path)
    assert before.tensors.keys() == after.tensors.keys()
    for name, tensor in before.tensors.items():
        whole = [slice(0, length) for length in tensor.shape]
        assert after.tensors[name].dtype == tensor.dtype
        assert np.array_equal(after.tensors[name].block(*whole), tensor.block(*whole)), name


@each_sample
@pytest.mark.parametrize("to", WRITABLE)
def test_through_every_writer_that_can_hold_it_its_numbers_come_back(
    sample: Sample, to: str, tmp_path: Path
) -> None:
    before = load(sample.repo, sample.where, sample.repo_id, sample.facts)
    try:
        convert(sample.repo, tmp_path, to, sample.where, sample.repo_id, sample.facts)
    except CannotRepresent as refusal:
        assert to != "mistudio"
        assert any(f"{it}" in str(refusal) for it in (*before.info.facts, *ARCHITECTURES))
        return
    after = load(tmp_path)
    assert after.info.format == to
    assert after.tensors.keys() == before.tensors.keys()
    for name, tensor in before.tensors.items():
        assert np.array_equal(after.tensors[name].all(), tensor.all()), name


@each_sample
def test_its_conversion_states_every_fact_with_its_origin(sample: Sample, tmp_path: Path) -> None:
    done = convert(sample.repo, tmp_path, "mistudio", sample.where, sample.repo_id, sample.facts)
    written = inspect(tmp_path)
    assert written.facts == done.info.facts
    assert not written.missing
    stated = ("architecture", "d_in", "d_sae", "d_out", "dtype", "apply_b_dec_to_input")
    assert all(name in written.facts for name in (*stated, "normalize_activations"))


@each_sample
def test_a_file_cut_anywhere_is_broken(sample: Sample, tmp_path: Path) -> None:
    shutil.copytree(sample.repo, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / weight_file(sample)
    assert_cut_is_broken(weights, lambda: inspect(tmp_path, sample.where, sample.repo_id))


@each_sample
def test_a_tensor_that_nobody_knows_is_refused(sample: Sample, tmp_path: Path) -> None:
    shutil.copytree(sample.repo, tmp_path, dirs_exist_ok=True)
    add_tensor(tmp_path / weight_file(sample))
    with pytest.raises(BrokenFile, match="stranger"):
        load(tmp_path, sample.where, sample.repo_id, sample.facts)


def weight_file(sample: Sample) -> str:
    """The largest of the SAE's own files."""
    files = identify(opened(sample), sample.where)[1].files
    return max(files, key=opened(sample).size)


def add_tensor(path: Path) -> None:
    """Written anew by the libraries that such files come from."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            np.savez(path, **arrays, stranger=np.ones(3))
    elif path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        save_file({**load_file(path), "stranger": torch.ones(3)}, path, metadata)
    else:
        torch.save({**torch.load(path, weights_only=True), "stranger": torch.ones(3)}, path)


def test_a_repository_of_several_finds_each_of_them_once() -> None:
    tree = opened(BY_NAME["mistudio_v1_multilayer"]).tree
    layers = [found.where.rpartition("/")[2] for found in find_saes(tree)]
    assert layers == ["layer_12", "layer_3", "layer_7"]
