"""`manage.py sae_inspect`: what a folder holds, on the terminal and for programs."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.fixtures import BY_NAME, write_saelens


def inspected(*words: Any) -> str:
    out = StringIO()
    call_command("sae_inspect", *map(str, words), stdout=out)
    return out.getvalue()


def test_it_tells_format_facts_with_their_origin_and_shapes(tmp_path: Path) -> None:
    told = inspected(write_saelens(tmp_path / "layer_6", "topk"))
    assert "SAELens" in told
    assert any(line.split() == ["k", "5", "file"] for line in told.splitlines())
    assert any(line.split() == ["W_enc", "F32", "16", "x", "64"] for line in told.splitlines())


def test_json_tells_the_same(tmp_path: Path) -> None:
    told = json.loads(inspected(write_saelens(tmp_path / "in", "topk"), "--json"))
    assert told["format"] == "saelens"
    assert told["facts"]["k"] == {"value": 5, "origin": "file"}
    assert {"name": "W_enc", "dtype": "F32", "shape": [16, 64]} in told["tensors"]
    assert told["missing"] == []


def test_of_several_saes_each_is_shown() -> None:
    told = json.loads(inspected(BY_NAME["mistudio_v1_multilayer"].repo, "--json"))
    assert [it["where"].rpartition("/")[2] for it in told] == ["layer_12", "layer_3", "layer_7"]


def test_what_the_files_do_not_say_is_asked_with_its_readings() -> None:
    told = inspected(BY_NAME["mistudio_v1_jumprelu"].repo)
    assert "--fact generation=1" in told
    assert "--fact normalize_activations=constant_norm_rescale" in told
    answered = inspected(
        BY_NAME["mistudio_v1_jumprelu"].repo, "--fact", "generation=1",
        "--fact", "normalize_activations=none",
    )  # fmt: skip
    assert "Missing" not in answered


def test_the_name_of_the_repository_tells_facts() -> None:
    sample = BY_NAME["gemma_scope_1_res"]
    assert "asks" not in inspected(sample.repo, "--repo-id", sample.repo_id)
    assert "gemma-2-2b" in inspected(sample.repo, "--repo-id", sample.repo_id)


def test_what_is_no_plain_sae_is_named_with_its_reason() -> None:
    assert "No plain SAE: it attends" in inspected(BY_NAME["temporal_tied"].repo)


def test_nothing_there_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No SAE was found"):
        inspected(tmp_path)
    with pytest.raises(CommandError, match="NAME=VALUE"):
        inspected(tmp_path, "--fact", "k")


def test_formats_are_told_as_json_too() -> None:
    out = StringIO()
    call_command("sae_formats", "--json", stdout=out)
    told = {it["name"]: it for it in json.loads(out.getvalue())}
    assert told["saelens"]["written"] and not told["bare"]["written"]
