"""What the older miStudio exported under SAELens' file names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saes.converter import inspect, load
from saes.errors import BrokenFile, NotThisFormat, UnsupportedArchitecture
from saes.formats import FolderSource, by_slug
from tests.fixtures import BY_NAME, write_saelens
from tests.fixtures.mistudio import asked, certified


def export(folder: Path, architecture: str = "standard", **changes: Any) -> Path:
    told: dict[str, Any] = {
        "metadata": None,
        "apply_b_dec_to_input": False,
        "normalize_activations": "constant_norm_rescale",
        "mistudio_training_id": "train_1",
        "extra_metadata": {},
    }
    return write_saelens(folder, architecture, **{**told, **changes})


def test_a_neuronpedia_export_is_read_by_its_tensors_and_its_normalisation_not_believed() -> None:
    sample = BY_NAME["mistudio_neuronpedia_export_raw"]
    info = inspect(sample.repo)
    assert [fact.name for fact in info.missing] == ["normalize_activations"]
    assert (info.get("model_name"), info.get("hook_name")) == (
        "gpt2-small",
        "blocks.3.hook_resid_post",
    )


def test_the_community_format_tells_that_its_bias_was_lost() -> None:
    sample = BY_NAME["mistudio_v1_community_format"]
    residual = inspect(sample.repo, sample.where)
    assert "decoder.bias" in residual.get("warning")
    mlp = inspect(sample.repo, "community_format/layer_7_mlp")
    assert (mlp.get("layer"), mlp.get("hook_type")) == (7, "mlp")
    assert mlp.get("hook_name") == "blocks.7.hook_mlp_out"


@pytest.mark.parametrize(
    ("architecture", "extra", "centred"),
    [
        ("standard", {"top_k_sparsity": None}, False),
        ("standard_saelens", {}, True),
        ("jumprelu", {"top_k_sparsity": None}, False),
        ("jumprelu", {"top_k": None}, True),
        ("topk", {"top_k": 5}, True),
    ],
)
def test_the_generation_of_a_community_export_decides_centring(
    architecture: str, extra: dict[str, Any], centred: bool, tmp_path: Path
) -> None:
    folder = export(tmp_path / "in", architecture, extra_metadata=extra)
    assert certified(folder, tmp_path / "out").get("apply_b_dec_to_input") is centred


def test_top_k_in_percent_of_the_first_generation(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", extra_metadata={"top_k_sparsity": 10.0})
    info = certified(folder, tmp_path / "out")
    assert (info.get("architecture"), info.get("k")) == ("topk", 6)


def test_the_second_generation_ignored_the_percentage(tmp_path: Path) -> None:
    extra = {"top_k_sparsity": 10.0}
    folder = export(tmp_path / "in", "standard_saelens", extra_metadata=extra)
    assert certified(folder, tmp_path / "out").get("architecture") == "standard"


def test_an_export_that_shows_no_generation_asks(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", "jumprelu", normalize_activations="anthropic_rescale")
    assert asked(folder) == ["generation"]
    certified(folder, tmp_path / "out", generation="2")


def test_every_hook_was_labelled_so_a_label_alone_is_not_believed(tmp_path: Path) -> None:
    told = {"hook_name": "blocks.3.hook_resid_post", "model_name": "gpt2-small"}
    info = inspect(export(tmp_path / "in", **told))
    assert (info.get("model_name"), info.get("layer")) == ("gpt2-small", 3)
    assert info.get("hook_name") is None
    residual = inspect(export(tmp_path / "layer_3_residual", **told).parent, "layer_3_residual")
    assert residual.get("hook_name") == "blocks.3.hook_resid_post"


def test_a_threshold_that_began_at_a_half_may_be_the_second_generations(tmp_path: Path) -> None:
    extra = {"top_k_sparsity": None, "initial_threshold": 0.5}
    assert asked(export(tmp_path / "half", "jumprelu", extra_metadata=extra)) == ["generation"]
    extra["initial_threshold"] = 0.001
    assert not asked(export(tmp_path / "first", "jumprelu", extra_metadata=extra))


@pytest.mark.parametrize("percent", [None, 10.0])
def test_a_transcoder_of_the_first_generation_is_whole(
    percent: float | None, tmp_path: Path
) -> None:
    extra = {"top_k_sparsity": percent}
    folder = export(tmp_path / "in", "transcoder", d_out=12, extra_metadata=extra)
    info = certified(folder, tmp_path / "out")
    assert info.get("architecture") == ("topk_transcoder" if percent else "transcoder")
    assert (info.get("d_out"), info.get("normalize_activations")) == (12, "none")


def test_a_skip_autoencoder_is_read_where_it_did_not_normalise(tmp_path: Path) -> None:
    extra = {"top_k_sparsity": None}
    told: dict[str, Any] = {"architecture": "skip", "W_skip": None, "extra_metadata": extra}
    folder = export(tmp_path / "in", **told, normalize_activations="none")
    info = certified(folder, tmp_path / "out")
    assert info.get("architecture") == "skip_transcoder"
    assert "decoder.bias" in info.get("warning")
    second = {**told, "extra_metadata": {"top_k": None}, "normalize_activations": "none"}
    certified(export(tmp_path / "second", **second), tmp_path / "b")
    with pytest.raises(UnsupportedArchitecture, match="normalised"):
        load(export(tmp_path / "normalised", **told))


def test_exports_that_lost_what_matters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitecture, match="b_enc_center"):
        inspect(export(tmp_path / "transcoder", "transcoder", extra_metadata={"top_k": None}))
    with pytest.raises(UnsupportedArchitecture, match="gated"):
        inspect(export(tmp_path / "gated", "gated", b_enc=np.ones(64, np.float32)))
    with pytest.raises(BrokenFile, match="b_dec"):
        inspect(export(tmp_path / "topk", "topk", b_dec=None, extra_metadata={"top_k": 5}))
    for percent in (0, -1.0, 101, "ten"):
        with pytest.raises(BrokenFile, match="top_k_sparsity"):
            inspect(export(tmp_path / str(percent), extra_metadata={"top_k_sparsity": percent}))


def test_a_plain_saelens_folder_is_not_ours(tmp_path: Path) -> None:

    source = FolderSource(write_saelens(tmp_path))
    with pytest.raises(NotThisFormat):
        by_slug("mistudio").probe(source, ".", {})
