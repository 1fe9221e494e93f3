"""Remote names: what may become a path below the data directory, and what never does (S14, S16)."""

from pathlib import Path

import pytest

from saes.errors import UnsafeName
from saes.safe_names import refuse_unsafe, why_unsafe
from saes.storage import Library

BAD = [
    "../x", "a/../../x", "/etc/x", "..\\x", "a\\..\\..\\x", "C:\\x", "D:x", "\\\\host\\share\\x",
    "a//b", "a/./b", ".", "", "x" * 300, "a/" * 345 + "x", "CON", "aux.npz", "name.", "name ",
    " name", "nul\0x", "line\nbreak", "a\u2215b", "a\u202eb", "e\u0301.npz", "a/..",
    "\ud800", "~\u200b",
]  # fmt: skip
GOOD = [
    "params.npz", "layer_12/width_16k/average_l0_41/params.npz", "v5_32k_layer_0.pt/cfg.json",
    "sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1/cfg.json", "é/ünïcode.json", ".gitattributes",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_could_leave_its_folder_or_fool_a_reader_is_refused(name: str) -> None:
    with pytest.raises(UnsafeName):
        refuse_unsafe([name])


@pytest.mark.parametrize("name", GOOD)
def test_names_of_real_repositories_are_accepted(name: str) -> None:
    assert why_unsafe(name) is None


@pytest.mark.parametrize("twin", ["A/cfg.json", "a/CFG.JSON"])
def test_two_names_that_are_one_file_on_some_disks_are_refused(twin: str) -> None:
    with pytest.raises(UnsafeName, match="one file on some disks"):
        refuse_unsafe(["a/cfg.json", twin])


@pytest.mark.parametrize(
    "sae_id", ["", ".", "..", "/", "sae_", "sae_../../etc", "sae_0123456789ab/.."]
)
def test_only_ids_of_this_server_become_folders(tmp_path: Path, sae_id: str) -> None:
    with pytest.raises(UnsafeName):
        Library(tmp_path).remove(sae_id)


def test_removing_an_sae_whose_folder_is_a_link_leaves_the_other_side_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (tmp_path / "saes").mkdir()
    (tmp_path / "saes" / "sae_0123456789ab").symlink_to(elsewhere)
    with pytest.raises(UnsafeName):
        Library(tmp_path).remove("sae_0123456789ab")
    assert (elsewhere / "precious").read_text() == "x"
