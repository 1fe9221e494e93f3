"""SAELens as a target: cfg.json leaves nothing to guess, and what has no place is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saes.converter import convert, load
from saes.errors import CannotRepresent
from saes.formats.base import Fact, Origin, Sae, SaeInfo, as_facts
from saes.formats.saelens import SaeLens
from saes.progress import Silent
from tests.fixtures import write_saelens


def test_cfg_json_says_everything_and_names_where_it_comes_from(tmp_path: Path) -> None:
    told = {"hook_name": "blocks.3.hook_resid_post", "sae_lens_version": "6.1.0"}
    source = write_saelens(tmp_path / "in", "topk", metadata=told)
    paths = convert(source, tmp_path / "out", to="saelens", repo_id="someone/sae").paths
    assert [path.name for path in paths] == ["sae_weights.safetensors", "cfg.json"]
    cfg = json.loads(paths[1].read_text())
    metadata = cfg.pop("metadata")
    assert cfg == {
        "architecture": "topk",
        "d_in": 16,
        "d_sae": 64,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "k": 5,
        "rescale_acts_by_decoder_norm": False,
    }
    assert metadata["sae_lens_version"].startswith("6.")
    assert metadata["sae_lens_training_version"] is None
    assert metadata["hook_name"] == "blocks.3.hook_resid_post"
    assert metadata["mistudio"]["source"]["repo_id"] == "someone/sae"
    assert metadata["mistudio"]["facts"]["k"] == {"value": 5, "origin": "file"}


@pytest.mark.parametrize(
    ("field", "architecture", "facts"),
    [
        ("architecture", "topk_transcoder", {}),
        ("apply_b_dec_to_input", "transcoder", {"apply_b_dec_to_input": True}),
        ("normalize_activations", "standard", {"normalize_activations": "sideways"}),
        ("normalize_activations", "temporal", {"normalize_activations": "covariance_whitening"}),
        (
            "norm_scaling_factor",
            "standard",
            {"normalize_activations": "expected_average_only_in", "norm_scaling_factor": 2.0},
        ),
        ("reshape_activations", "standard", {"reshape_activations": "fold"}),
        (
            "reshape_activations",
            "standard",
            {"reshape_activations": "hook_z", "hook_name": "blocks.3.attn.hook_z.pre"},
        ),
    ],
)
def test_what_saelens_cannot_hold_is_refused_by_name_before_anything_is_written(
    field: str, architecture: str, facts: dict[str, Any], tmp_path: Path
) -> None:
    told = {"architecture": architecture, "normalize_activations": "none", **facts}
    sae = Sae(SaeInfo("made", ".", as_facts(Origin.FILE, told)), {})
    with pytest.raises(CannotRepresent, match=field):
        SaeLens().save(sae, tmp_path, Silent())
    assert not list(tmp_path.iterdir())


def test_a_guess_is_no_metadata(tmp_path: Path) -> None:
    source = load(write_saelens(tmp_path / "in"))
    guess = {"model_name": Fact("gpt2", Origin.INFERRED)}
    sae = Sae(replace(source.info, facts={**source.info.facts, **guess}), source.tensors)
    (tmp_path / "out").mkdir()
    SaeLens().save(sae, tmp_path / "out", Silent())
    metadata = json.loads((tmp_path / "out" / "cfg.json").read_text())["metadata"]
    assert "model_name" not in metadata
    assert metadata["mistudio"]["facts"]["model_name"]["origin"] == "inferred"
