"""A folder that the disk does not hand out: said in words, never a crash."""

import sys
from pathlib import Path

import pytest

from saes.errors import DataMissing, PathNotFound
from saes.formats import FolderSource


@pytest.mark.skipif(
    sys.platform != "linux", reason="/proc has a file that fails as a bad disk does"
)
def test_a_file_that_cannot_be_read_is_named() -> None:
    source = FolderSource("/proc/self")
    with pytest.raises(DataMissing, match="`mem` cannot be read: input/output error") as refused:
        source.read("mem", 0, 8)
    assert "may read" in refused.value.next_step


def test_a_name_that_the_disk_does_not_take_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="cannot be read: file name too long"):
        FolderSource(tmp_path).size("x" * 300)
    with pytest.raises(DataMissing, match="cannot be read: file name too long"):
        FolderSource(tmp_path / ("x" * 300))


def test_what_is_not_there_is_said_not_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for name in ("nothing", "nothing/below", "file/below"):
        with pytest.raises(PathNotFound):
            FolderSource(tmp_path).size(name)
