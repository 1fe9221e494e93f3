"""The certificate catches what went wrong, wherever it went wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from saes import tensors as lazy
from saes.certificate import activations
from saes.converter import certify, convert, inspect
from saes.errors import BrokenFile, CertificateFailed, ConfigNotFound, NothingFires
from saes.formats import gemma_scope_1, saelens_weights
from tests.fixtures import SAMPLES, Array, Sample, tensors, write_saelens

Weights = dict[str, Array]
each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def turned(weights: Weights) -> None:
    """As a square SAE would be if a transpose were forgotten."""
    weights["model.encoder.weight"] = np.ascontiguousarray(weights["model.encoder.weight"][:, ::-1])


def shifted(weights: Weights) -> None:
    weights["model.decoder_bias"][3] += 0.01


def scaled(weights: Weights) -> None:
    weights["model.decoder.weight"] *= np.float32(1.0001)


def one_weight(weights: Weights) -> None:
    weights["model.encoder.weight"][::5, 1] += np.float32(0.01)


def certificate_after(sample: Sample, out: Path, damage: Callable[[Weights], None]) -> Any:
    convert(
        sample.repo, out, "mistudio", where=sample.where, repo_id=sample.repo_id, facts=sample.facts
    )
    checkpoint = out / "checkpoint.safetensors"
    weights = load_wide(checkpoint)
    damage(weights)
    save_file(weights, checkpoint)
    return certify(sample.repo, sample.where, out, sample.repo_id, sample.facts)


def load_wide(checkpoint: Path) -> Weights:
    import torch
    from safetensors.torch import load_file as load_torch

    return {
        name: (it.float() if it.dtype == torch.bfloat16 else it).numpy()
        for name, it in load_torch(checkpoint).items()
    }


@each_sample
def test_an_untouched_checkpoint_passes(sample: Sample, tmp_path: Path) -> None:
    certificate = certificate_after(sample, tmp_path, lambda weights: None)
    assert certificate.passed
    assert certificate.max_rel_recon < 1e-7  # generation 1 adds two biases in float32
    json.dumps(certificate.to_json(), allow_nan=False)


@each_sample
@pytest.mark.parametrize(
    "damage", [turned, shifted, scaled, one_weight], ids=lambda it: it.__name__
)
def test_damage_fails(sample: Sample, damage: Callable[[Weights], None], tmp_path: Path) -> None:
    assert not certificate_after(sample, tmp_path, damage).passed


def changed_fact(sample: Sample, out: Path, **facts: Any) -> Any:
    convert(
        sample.repo, out, "mistudio", where=sample.where, repo_id=sample.repo_id, facts=sample.facts
    )
    path = out / "metadata.json"
    metadata = json.loads(path.read_text())
    for name, value in facts.items():
        metadata["facts"][name]["value"] = value
    path.write_text(json.dumps(metadata))
    return certify(sample.repo, sample.where, out, sample.repo_id, sample.facts)


@each_sample
def test_wrong_centring_fails(sample: Sample, tmp_path: Path) -> None:
    told = inspect(sample.repo, sample.where, sample.repo_id, sample.facts)
    if told.get("architecture") in ("transcoder", "skip_transcoder", "jumprelu_transcoder"):
        return  # they have no centring that could be wrong
    centred = told.get("apply_b_dec_to_input")
    assert not changed_fact(sample, tmp_path, apply_b_dec_to_input=not centred).passed


@each_sample
def test_wrong_normalisation_fails(sample: Sample, tmp_path: Path) -> None:
    told = inspect(sample.repo, sample.where, sample.repo_id, sample.facts)
    other = "none" if told.get("normalize_activations") == "layer_norm" else "layer_norm"
    assert not changed_fact(sample, tmp_path, normalize_activations=other).passed


@pytest.mark.parametrize(
    "sample", [it for it in SAMPLES if "jumprelu" in it.name], ids=lambda it: it.name
)
def test_a_threshold_that_is_off_fails(sample: Sample, tmp_path: Path) -> None:
    def damage(weights: Weights) -> None:
        weights["model.activation.log_threshold"] += 0.5

    assert not certificate_after(sample, tmp_path, damage).passed


@pytest.mark.parametrize(
    "sample", [it for it in SAMPLES if "k" in it.meta["semantics"]], ids=lambda it: it.name
)
def test_another_k_fails(sample: Sample, tmp_path: Path) -> None:
    assert not changed_fact(sample, tmp_path, k=sample.meta["semantics"]["k"] - 1).passed


def test_a_nan_never_passes(tmp_path: Path) -> None:
    b_dec = tensors()["b_dec"]
    b_dec[0] = np.nan
    with pytest.raises(BrokenFile, match="b_dec of `.` holds NaN"):
        convert(write_saelens(tmp_path / "in", b_dec=b_dec), tmp_path / "out", "mistudio")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("normalisation", ["constant_norm_rescale", "layer_norm"])
def test_features_that_only_their_own_direction_wakes_are_compared(
    normalisation: str, tmp_path: Path
) -> None:
    """Inputs of fixed length: no random direction of 768 reaches a bias so far below zero."""
    random = np.random.default_rng(1)
    W_enc = random.standard_normal((768, 64)).astype(np.float32)
    W_enc /= np.linalg.norm(W_enc, axis=0)
    source = write_saelens(
        tmp_path / "in", d_in=768, normalize_activations=normalisation, W_enc=W_enc,
        W_dec=np.ascontiguousarray(W_enc.T), b_dec=np.zeros(768, np.float32),
        b_enc=np.full(64, -8, np.float32),
    )  # fmt: skip
    done = convert(source, tmp_path / "out", "mistudio")
    assert done.certificate is not None
    assert done.certificate.passed
    assert done.certificate.mean_l0 >= 1


# --- bugs planted in the readers: the certificate does not go through them ------------------------


def test_a_reader_that_scales_wrongly_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in/embedding/width_4k/average_l0_6").mkdir(parents=True)
    np.savez(tmp_path / "in/embedding/width_4k/average_l0_6/params.npz", **tensors("jumprelu"))
    monkeypatch.setattr(gemma_scope_1, "times", lambda tensor, factor: tensor)
    with pytest.raises(CertificateFailed):
        convert(
            tmp_path / "in", tmp_path / "out", "mistudio", repo_id="google/gemma-scope-2b-pt-res"
        )


def test_a_reader_that_forgets_a_factor_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_saelens(tmp_path / "in", normalize_activations="expected_average_only_in")
    monkeypatch.setattr(saelens_weights, "_times", lambda tensors, factor, info: tensors)
    with pytest.raises(CertificateFailed):
        convert(source, tmp_path / "out", "mistudio", facts={"norm_scaling_factor": 0.5})


def test_a_square_sae_that_is_not_turned_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    square: dict[str, Any] = {
        name: random.standard_normal((64, 64)).astype(np.float32) for name in ("W_enc", "W_dec")
    }
    b_dec = random.standard_normal(64).astype(np.float32)
    source = write_saelens(tmp_path / "in", d_in=64, b_dec=b_dec, **square)
    monkeypatch.setattr(lazy.LazyTensor, "transposed", lambda self: self)
    with pytest.raises(CertificateFailed):
        convert(source, tmp_path / "out", "mistudio")


def test_a_block_that_is_read_from_the_wrong_place_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        lazy.Transposed,
        "block",
        lambda self, *index: np.roll(self._base.block(*index[::-1]).T, 1, 0),
    )
    with pytest.raises(CertificateFailed):
        convert(write_saelens(tmp_path / "in"), tmp_path / "out", "mistudio")


# --- what it looks at ---------------------------------------------------------------------------


def test_where_nothing_fires_there_is_no_certificate(tmp_path: Path) -> None:
    dead = np.full(64, -1e9, np.float32)
    source = write_saelens(tmp_path / "in", b_enc=dead)
    with pytest.raises(NothingFires):
        convert(source, tmp_path / "out", "mistudio")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_decoder_of_a_feature_that_no_direction_wakes_is_compared(tmp_path: Path) -> None:
    b_enc = np.zeros(64, np.float32)
    b_enc[9] = -1e9
    source, out = write_saelens(tmp_path / "in", b_enc=b_enc), tmp_path / "out"
    convert(source, out, "mistudio", certify=False)
    weights = load_wide(out / "checkpoint.safetensors")
    weights["model.decoder.weight"][:, 9] *= np.float32(1.01)
    save_file(weights, out / "checkpoint.safetensors")
    certificate = certify(source, None, out)
    assert certificate.active_sets_identical
    assert certificate.max_rel_acts == 0
    assert not certificate.passed


@pytest.mark.parametrize("count", [8, 16, 36])
@pytest.mark.parametrize("d_sae", [1, 5, 300])
def test_what_goes_through_the_decoders_wakes_every_feature(count: int, d_sae: int) -> None:
    acts = activations(count, d_sae, seed=3)
    assert (acts >= 0).all()
    woken = (acts > 0).sum(axis=0)
    assert (woken >= count // 4).all()
    assert (woken <= count // 4 + 1).all()


def test_most_directions_wake_a_typical_share_of_the_features(tmp_path: Path) -> None:
    done = convert(write_saelens(tmp_path / "in", "jumprelu"), tmp_path / "out", "mistudio")
    assert done.certificate is not None
    assert done.certificate.n_vectors > 10
    assert 0.01 <= done.certificate.fired_fraction <= 0.5
    assert done.certificate.mean_l0 == pytest.approx(64 * done.certificate.fired_fraction)


def test_the_same_seed_gives_the_same_certificate(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in")
    convert(source, tmp_path / "out", "mistudio", certify=False)
    assert certify(source, None, tmp_path / "out") == certify(source, None, tmp_path / "out")


def test_a_checkpoint_without_its_metadata_is_not_certified(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in")
    convert(source, tmp_path / "out", "mistudio", certify=False)
    (tmp_path / "out" / "metadata.json").unlink()
    with pytest.raises(ConfigNotFound):
        certify(source, None, tmp_path / "out")
