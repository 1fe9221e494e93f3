"""A file that is as its author published it, and damaged all the same."""

import shutil
from pathlib import Path

import pytest

from saes import converter
from saes.errors import BrokenFile

SAMPLE = Path(__file__).parent.parent / "fixtures" / "samples" / "gemma_scope_1_res" / "repo"


def test_weights_that_do_not_match_their_own_checksum_get_no_certificate(tmp_path: Path) -> None:
    shutil.copytree(SAMPLE, tmp_path / "source")
    weights = next((tmp_path / "source").rglob("params.npz"))
    body = bytearray(weights.read_bytes())
    body[3000] ^= 1  # inside the first matrix
    weights.write_bytes(body)
    with pytest.raises(BrokenFile, match="checksum"):
        converter.convert(
            tmp_path / "source",
            tmp_path / "native",
            "mistudio",
            repo_id="google/gemma-scope-2b-pt-res",
        )
    assert not list((tmp_path / "native").iterdir())
