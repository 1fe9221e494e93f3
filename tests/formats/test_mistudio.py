"""miStudio native: every bit and every fact comes back."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from saes.converter import convert, inspect, load
from saes.errors import BrokenFile, CannotRepresent, UnsupportedArchitecture
from saes.formats.base import Origin
from saes.formats.mistudio import rewrite_metadata
from tests.fixtures import tensors, write_saelens
from tests.fixtures.circuit_tracer import layer, written

GOLDEN = "371c7c4dba180ef0d9bc9b800c196adbb19792b5b082f1314cf565827933d1ed"
LOG_THRESHOLD = "model.activation.log_threshold"


def native(tmp_path: Path, architecture: str = "jumprelu", **changes: Any) -> Path:
    source = write_saelens(tmp_path / "in", architecture, **changes)
    convert(source, tmp_path / "out", "mistudio", provenance={"revision": "abc"})
    return tmp_path / "out"


def test_the_native_names_and_shapes(tmp_path: Path) -> None:
    shapes = {
        name: it.shape
        for name, it in load_file(native(tmp_path) / "checkpoint.safetensors").items()
    }
    assert shapes == {
        "model.encoder.weight": (64, 16),
        "model.encoder.bias": (64,),
        "model.decoder.weight": (16, 64),
        "model.decoder_bias": (16,),
        LOG_THRESHOLD: (64,),
    }


def test_the_logarithm_of_a_threshold_gives_back_every_bit(tmp_path: Path) -> None:
    many = np.concatenate(
        [np.float32(10.0) ** np.linspace(-30, 30, 60, dtype=np.float32), [1e-44, 3e38, 1, 7]]
    )
    stored = load_file(
        native(tmp_path, threshold=many.astype(np.float32)) / "checkpoint.safetensors"
    )
    assert stored[LOG_THRESHOLD].dtype == np.float64
    assert np.array_equal(np.exp(stored[LOG_THRESHOLD]).astype(np.float32), many.astype(np.float32))


@pytest.mark.parametrize("lost", [0.0, -0.0, -1.5, np.nan, np.inf])
def test_a_threshold_that_a_logarithm_would_lose_is_stored_as_it_is(
    lost: float, tmp_path: Path
) -> None:
    threshold = tensors("jumprelu")["threshold"]
    threshold[5] = lost
    source = write_saelens(tmp_path / "in", "jumprelu", threshold=threshold)
    convert(source, tmp_path / "out", "mistudio", certify=False)
    stored = load_file(tmp_path / "out" / "checkpoint.safetensors")
    assert LOG_THRESHOLD not in stored
    assert stored["model.threshold"].tobytes() == threshold.tobytes()
    assert (
        load(tmp_path / "out").tensors["threshold"].block(slice(None)).tobytes()
        == threshold.tobytes()
    )


def test_the_metadata_states_facts_origins_dtypes_and_where_it_came_from(tmp_path: Path) -> None:
    told = json.loads((native(tmp_path) / "metadata.json").read_text())
    assert (told["format"], told["format_version"]) == ("mistudio", 1)
    assert told["facts"]["architecture"] == {"value": "jumprelu", "origin": "file"}
    assert told["tensors"]["threshold"] == {"dtype": "F32", "shape": [64]}
    assert (told["source"]["format"], told["source"]["revision"]) == ("saelens", "abc")


def test_it_converts_to_itself_bit_for_bit(tmp_path: Path) -> None:
    first = native(tmp_path)
    done = convert(first, tmp_path / "again", "mistudio")
    weights = [folder / "checkpoint.safetensors" for folder in (first, tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert done.certificate is not None
    assert done.certificate.max_abs_acts == 0


def test_the_written_checkpoint_is_the_golden_one(tmp_path: Path) -> None:
    """Byte for byte: a change of this form is a change for everyone who keeps such files."""
    made: dict[str, Any] = {
        name: np.arange(array.size, dtype=np.float32).reshape(array.shape)
        for name, array in tensors().items()
    }
    source = write_saelens(tmp_path / "in", **made)
    convert(source, tmp_path / "out", "mistudio", certify=False)
    digest = hashlib.sha256((tmp_path / "out" / "checkpoint.safetensors").read_bytes()).hexdigest()
    assert digest == GOLDEN


def test_an_unknown_tensor_a_newer_version_and_a_missing_fact_are_refused(tmp_path: Path) -> None:
    folder = native(tmp_path)
    told = json.loads((folder / "metadata.json").read_text())
    for wrong, error in (
        ({"format_version": 2}, UnsupportedArchitecture),
        ({"facts": {**told["facts"], "d_sae": {"value": True, "origin": "file"}}}, BrokenFile),
        ({"facts": {**told["facts"], "k": {"value": 1, "origin": "rumour"}}}, BrokenFile),
        ({"facts": {}}, BrokenFile),
    ):
        (folder / "metadata.json").write_text(json.dumps({**told, **wrong}))
        with pytest.raises(error):
            inspect(folder)


def test_only_what_describes_can_be_stated_anew(tmp_path: Path) -> None:
    folder = native(tmp_path)
    rewrite_metadata(folder, {"model_name": "gpt2", "layer": "7"})
    info = inspect(folder)
    assert (info.get("model_name"), info.get("layer")) == ("gpt2", 7)
    assert info.facts["layer"].origin == Origin.USER
    with pytest.raises(CannotRepresent):
        rewrite_metadata(folder, {"apply_b_dec_to_input": False})
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.safetensors",
        "metadata.json",
    ]


@pytest.mark.parametrize("kinds", [("k",), ("k", "skip")])
def test_it_holds_top_k_transcoders(kinds: tuple[str, ...], tmp_path: Path) -> None:
    convert(written(tmp_path / "in", layer(*kinds)), tmp_path / "out", "mistudio")
    done = convert(tmp_path / "out", tmp_path / "again", "mistudio")
    assert done.certificate is not None
    assert done.certificate.max_abs_acts == 0
    assert (done.info.get("k"), "skip" in done.info.get("architecture")) == (6, "skip" in kinds)
    told = json.loads((tmp_path / "out" / "metadata.json").read_text())
    told["facts"]["k"]["value"] = 65
    (tmp_path / "out" / "metadata.json").write_text(json.dumps(told))
    with pytest.raises(BrokenFile, match="k should be"):
        inspect(tmp_path / "out")


def test_a_threshold_stored_twice_is_refused(tmp_path: Path) -> None:
    folder = native(tmp_path)
    stored = load_file(folder / "checkpoint.safetensors")
    save_file(
        {**stored, "model.threshold": stored[LOG_THRESHOLD]}, folder / "checkpoint.safetensors"
    )
    with pytest.raises(BrokenFile, match="model.threshold"):
        inspect(folder)
