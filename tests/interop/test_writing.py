"""What we write, loaded by the real sae-lens: the same tensors, features and reconstruction."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saes.converter import load
from saes.formats.architectures import NORMALISATIONS, PLAIN
from saes.formats.base import Origin, Sae, SaeInfo, as_facts
from saes.formats.saelens import SaeLens
from saes.formats.saelens_config import ARCHITECTURES
from saes.progress import Silent
from saes.tensors import BITS, Held
from tests.fixtures import tensors
from tests.interop.sides import (
    assert_near,
    inputs,
    theirs,
    through_ours,
    through_theirs,
    weights,
)

WRITABLE = [it for it in ARCHITECTURES if it in PLAIN]


def made(architecture: str, dtype: str = "F32", d_out: int = 0, **facts: Any) -> Sae:
    told: dict[str, Any] = {
        "architecture": architecture,
        "d_in": 16,
        "d_sae": 64,
        "d_out": d_out or 16,
        "apply_b_dec_to_input": "transcoder" not in architecture,
        "normalize_activations": "none",
        "k": 5 if "topk" in architecture else None,
        **facts,
    }
    standard = tensors(architecture, d_out=d_out)
    held = {name: Held(np.asarray(it, np.float64), dtype) for name, it in standard.items()}
    return Sae(SaeInfo("made", ".", as_facts(Origin.FILE, told)), held)


def written(sae: Sae, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    SaeLens().save(sae, folder, Silent())
    return folder


def assert_loads_as_it_is(sae: Sae, folder: Path) -> None:
    loaded = theirs(written(sae, folder), dtype=None)
    found = weights(loaded)
    assert found.keys() == sae.tensors.keys()
    for name, tensor in sae.tensors.items():
        assert np.array_equal(found[name], tensor.all()), name
    x = inputs()
    assert_near(through_theirs(theirs(folder), x), through_ours(folder, x))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("architecture", WRITABLE)
def test_every_architecture_dtype_and_normalisation_loads_bit_for_bit(
    architecture: str, dtype: str, normalisation: str, tmp_path: Path
) -> None:
    d_out = 12 if "transcoder" in architecture else 0
    sae = made(architecture, dtype, d_out, normalize_activations=normalisation)
    assert_loads_as_it_is(sae, tmp_path)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "gated", "topk", "abstopk", "jumprelu"])
def test_centring_is_said_and_not_left_to_the_default(
    architecture: str, centred: bool, tmp_path: Path
) -> None:
    assert_loads_as_it_is(made(architecture, apply_b_dec_to_input=centred), tmp_path)


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
def test_weighing_by_decoder_norm_survives(architecture: str, tmp_path: Path) -> None:
    sae = made(architecture, rescale_acts_by_decoder_norm=True)
    assert_loads_as_it_is(sae, tmp_path)


@pytest.mark.parametrize("hook", ["blocks.3.attn.hook_z", None])
@pytest.mark.parametrize("architecture", ["standard", "gated", "topk", "abstopk", "jumprelu"])
def test_hook_z_takes_heads(architecture: str, hook: str | None, tmp_path: Path) -> None:
    assert_loads_as_it_is(
        made(architecture, reshape_activations="hook_z", hook_name=hook), tmp_path
    )


@pytest.mark.parametrize(
    ("matrices", "threshold", "dtype"),
    [("BF16", "F32", "float32"), ("BF16", "F16", "float32"), ("F32", "F64", "float64")],
)
def test_a_threshold_wider_than_the_matrices_widens_what_sae_lens_casts_to(
    matrices: str, threshold: str, dtype: str, tmp_path: Path
) -> None:
    sae = made("jumprelu", matrices)
    third = Held(np.full(64, 1 / 3), threshold)
    assert_loads_as_it_is(Sae(sae.info, {**sae.tensors, "threshold": third}), tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["dtype"] == dtype


def test_a_wide_threshold_of_narrow_numbers_widens_nothing(tmp_path: Path) -> None:
    sae = made("jumprelu", "BF16")
    half = Held(np.full(64, 0.5), "F64")
    assert_loads_as_it_is(Sae(sae.info, {**sae.tensors, "threshold": half}), tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["dtype"] == "bfloat16"


def test_sae_lens_keeps_the_metadata_and_writes_it_again(tmp_path: Path) -> None:
    told: dict[str, Any] = {
        "model_name": "gpt2",
        "hook_name": "blocks.3.hook_resid_post",
        "context_size": 128,
        "prepend_bos": False,
        "dataset_path": "someone/texts",
        "neuronpedia_id": "gpt2/3-res",
        "training_architecture": "batchtopk",
    }
    sae = Sae(made("jumprelu", **told).info, made("jumprelu").tensors, {"repo_id": "someone/sae"})
    loaded = theirs(written(sae, tmp_path / "ours"), dtype=None)
    assert loaded.cfg.metadata.sae_lens_training_version is None
    assert {name: loaded.cfg.metadata[name] for name in told} == told
    loaded.save_model(tmp_path / "theirs")
    again = load(tmp_path / "theirs")
    assert {name: again.info.get(name) for name in told} == told
    cfg = json.loads((tmp_path / "theirs" / "cfg.json").read_text())
    assert cfg["metadata"]["mistudio"]["source"] == {"repo_id": "someone/sae"}
