"""`manage.py sae_convert`: every writable format from the terminal, with its proof."""

import json
import os
import pty
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from saes.converter import detect_format
from saes.management.bar import Bar
from tests.apps import ROOT
from tests.fixtures import BY_NAME, write_saelens


def converted(*words: Any) -> str:
    out = StringIO()
    call_command("sae_convert", *map(str, words), stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.mark.parametrize("target", ["mistudio", "saelens", "sparsify", "dictionary_learning"])
def test_it_writes_every_form_and_says_what_was_proved(target: str, tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", "topk", k=5)
    told = converted(source, tmp_path / "out", "--to", target)
    assert "Certified: the same features fire" in told
    assert detect_format(tmp_path / "out") == target
    for path in (tmp_path / "out").iterdir():
        assert str(path) in told


def test_a_file_is_converted_as_the_sae_it_belongs_to(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in")
    converted(source / "sae_weights.safetensors", tmp_path / "out", "--to", "mistudio")
    assert detect_format(tmp_path / "out") == "mistudio"


def test_several_saes_are_listed_ready_to_be_given(tmp_path: Path) -> None:
    sample = BY_NAME["mistudio_v1_multilayer"]
    with pytest.raises(CommandError) as caught:
        converted(sample.repo, tmp_path, "--to", "saelens")
    choice = str(caught.value).splitlines()[1].split()
    assert choice[0] == "--where"
    facts = ["--fact", "normalize_activations=constant_norm_rescale"]
    converted(sample.repo, tmp_path / "out", "--to", "saelens", *choice, *facts)


def test_missing_facts_are_listed_ready_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--fact generation=1"):
        converted(BY_NAME["mistudio_v1_jumprelu"].repo, tmp_path / "out", "--to", "saelens")
    assert not (tmp_path / "out").exists()


def test_what_no_form_can_hold_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no place for a temporal SAE"):
        converted(BY_NAME["temporal_tied"].repo, tmp_path / "out", "--to", "mistudio")


def test_a_tensor_for_tensor_copy_says_so(tmp_path: Path) -> None:
    told = converted(BY_NAME["temporal_tied"].repo, tmp_path / "out", "--to", "saelens")
    assert "bit for bit" in told


def test_json_names_the_files_and_the_certificate(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in")
    told = json.loads(converted(source, tmp_path / "out", "--to", "mistudio", "--json"))
    assert told["format"] == "mistudio"
    assert {Path(path) for path in told["paths"]} == set((tmp_path / "out").iterdir())
    assert told["certificate"]["passed"]


def test_ctrl_c_leaves_no_half_of_an_sae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(bar: Bar, done: int, total: int) -> None:
        assert list((tmp_path / "out").iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        converted(write_saelens(tmp_path / "in"), tmp_path / "out", "--to", "mistudio")
    assert not list((tmp_path / "out").iterdir())


def test_on_a_terminal_a_bar_fills(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in")
    terminal, program = pty.openpty()
    words = [sys.executable, "manage.py", "sae_convert", str(source), str(tmp_path / "out")]
    ran = subprocess.run(
        [*words, "--to", "mistudio"], cwd=ROOT, stdout=subprocess.PIPE, stderr=program, check=True
    )
    os.close(program)
    assert "100 %" in os.read(terminal, 65536).decode()
    os.close(terminal)
    assert "checkpoint.safetensors" in ran.stdout.decode()
