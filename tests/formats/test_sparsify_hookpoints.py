"""sparsify: which place of which model a folder's name and its run tell of."""

import json
from pathlib import Path

import pytest

from saes.converter import inspect
from saes.formats import by_slug
from saes.formats.base import Origin, Tree
from tests.formats.sparse_coders import (
    RUN,
    WHERE,
    write,
)


@pytest.mark.parametrize(
    ("name", "hook", "site", "layer"),
    [
        ("layers.3", "blocks.3.hook_resid_post", "residual", 3),
        ("h.10", "blocks.10.hook_resid_post", "residual", 10),
        ("gpt_neox.layers.3", "blocks.3.hook_resid_post", "residual", 3),
        ("layers.3.mlp", "blocks.3.hook_mlp_out", "mlp", 3),
        ("layers.3.attention", "blocks.3.hook_attn_out", "attention", 3),
        ("layers.3.self_attn", "blocks.3.hook_attn_out", "attention", 3),
        ("h.5.attn", "blocks.5.hook_attn_out", "attention", 5),
        ("h.5.mlp.act", None, "mlp", 5),
        ("layers.3.post_attention_layernorm", None, None, 3),
        ("embed_tokens", None, "embedding", None),
    ],
)
def test_the_hookpoint_is_named_in_both_languages(
    name: str, hook: str | None, site: str | None, layer: int | None, tmp_path: Path
) -> None:
    info = inspect(write(tmp_path, where=f"run/{name}"), f"run/{name}")
    assert info.get("hf_hook_name") == name
    told = (info.get("hook_name"), info.get("hook_type"), info.get("layer"))
    assert told == (hook, site, layer)


def test_where_blocks_normalise_their_outputs_the_hook_is_not_certain(tmp_path: Path) -> None:
    run = {**RUN, "model": "google/gemma-2-2b"}
    info = inspect(write(tmp_path, where="run/layers.3.mlp", run=run), "run/layers.3.mlp")
    assert (info.get("hook_name"), info.get("hook_type")) == (None, "mlp")


def test_a_transcoder_reads_the_modules_input(tmp_path: Path) -> None:
    write(tmp_path, where="run/layers.3.mlp", transcode=True)
    info = inspect(tmp_path, "run/layers.3.mlp", repo_id="me/transcoders")
    assert (info.get("hook_name"), info.get("hook_name_out")) == (None, "blocks.3.hook_mlp_out")
    assert (info.get("hook_type"), info.get("layer")) == ("transcoder", 3)
    write(tmp_path, where="run/layers.3", transcode=True)
    assert inspect(tmp_path, "run/layers.3").get("hook_name") == "blocks.3.hook_resid_pre"


def test_the_run_tells_model_data_and_context(tmp_path: Path) -> None:
    info = inspect(write(tmp_path, run=RUN), WHERE)
    told = (info.get("model_name"), info.get("dataset_path"), info.get("context_size"))
    assert told == ("EleutherAI/pythia-160m", "me/pile", 2048)
    assert info.facts["model_name"].origin == Origin.FILE
    assert sorted(info.files) == [
        "run/config.json",
        f"{WHERE}/cfg.json",
        f"{WHERE}/sae.safetensors",
    ]


def test_one_of_several_seeds_knows_hookpoint_and_run(tmp_path: Path) -> None:
    where = f"{WHERE}/seed1"
    write(tmp_path, where=where)
    (tmp_path / "run" / "config.json").write_text(json.dumps(RUN))
    info = inspect(tmp_path, where)
    told = (info.get("hf_hook_name"), info.get("model_name"))
    assert told == ("layers.3", "EleutherAI/pythia-160m")


def test_an_sae_at_the_root_takes_the_only_hookpoint_of_its_run(tmp_path: Path) -> None:
    write(tmp_path, where=".")
    assert inspect(tmp_path).get("hook_name") is None
    (tmp_path / "config.json").write_text(json.dumps({**RUN, "hookpoints": ["layers.7"]}))
    info = inspect(tmp_path)
    assert (info.get("hook_name"), info.where) == ("blocks.7.hook_resid_post", ".")
    (tmp_path / "config.json").write_text(json.dumps({**RUN, "hookpoints": ["layers.[0-7]"]}))
    assert inspect(tmp_path).get("hook_name") is None


def test_a_config_of_another_library_above_is_no_run(tmp_path: Path) -> None:
    info = inspect(write(tmp_path, run={"model": "x", "model_type": "gpt2"}), WHERE)
    assert info.get("model_name") is None


def test_a_copied_file_is_known_by_its_header_and_cfg(tmp_path: Path) -> None:
    write(tmp_path, where=".")
    (tmp_path / "sae.safetensors").rename(tmp_path / "mine.safetensors")
    assert inspect(tmp_path / "mine.safetensors").format == "sparsify"


def test_every_hookpoint_is_found_and_no_leftover() -> None:
    names = [
        *(f"run/{hook}/{base}" for hook in ("layers.0", "embed_tokens", "h.1.mlp", "layers.2/seed0")
          for base in ("cfg.json", "sae.safetensors")),
        "run/config.json", "run/state.pt", "run/rank_0_state.pt", "run/optimizer_0.pt",
        "run/lr_scheduler_0.pt", "other/sae.safetensors", "third/cfg.json",
    ]  # fmt: skip
    assert by_slug("sparsify").find(Tree(names, "me/repo")) == [
        "run/embed_tokens", "run/h.1.mlp", "run/layers.0", "run/layers.2/seed0",
    ]  # fmt: skip
