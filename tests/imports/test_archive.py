"""Row S22: zips that were uploaded. What may not be unpacked is refused with a sentence."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from saes.errors import BrokenFile, PackedTooDeep, PathNotFound, SaeError, TooLarge, UnsafeName
from saes.formats import ArchiveSource, find_saes, identify
from saes.formats.archive import SHALLOW
from saes.formats.files.inflate import MAX_BEGINNING
from tests.fixtures import SAMPLES, Sample

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
Zip = Callable[..., ArchiveSource]


def zipped(path: Path, members: dict[str, bytes], method: int = DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Zip:
    def make(members: dict[str, bytes], method: int = DEFLATED, place: str = ".") -> ArchiveSource:
        zipped(tmp_path / "x.zip", members, method)
        return ArchiveSource(tmp_path, "x.zip", place=place)

    return make


def opened(tmp_path: Path, content: bytes) -> ArchiveSource:
    (tmp_path / "x.zip").write_bytes(content)
    return ArchiveSource(tmp_path, "x.zip")


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_its_members_are_read_as_files_are(archive: Zip, method: int) -> None:
    long = bytes(range(256)) * 20_000
    source = archive({"a/cfg.json": b'{"x": 1}', "a/long": long, "b/": b"", "empty": b""}, method)
    assert source.tree.names == {"a/cfg.json", "a/long", "empty"}
    assert (source.text("a/cfg.json"), source.size("a/long")) == ('{"x": 1}', len(long))
    for start, stop in ((0, 10), (SHALLOW - 5, SHALLOW + 5), (len(long) - 3, len(long)), (7, 7)):
        assert source.read("a/long", start, stop) == long[start:stop]
    with source.open("a/long") as file:
        assert file.read() == long
    with source.open("empty") as file:
        assert file.read() == b""
    with pytest.raises(BrokenFile):
        source.read("a/long", 0, len(long) + 1)
    with pytest.raises(PathNotFound):
        source.size("a")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda it: it.name)
def test_every_sample_is_known_inside_of_a_zip(archive: Zip, sample: Sample) -> None:
    files = {
        path.relative_to(sample.repo).as_posix(): path.read_bytes()
        for path in sample.repo.rglob("*")
        if path.is_file()
    }
    source = archive(files)
    assert sample.where in {it.where for it in find_saes(source.tree)}
    assert identify(source, sample.where, sample.facts)[0].slug == sample.family


def test_a_place_inside_is_a_folder_or_lies_beside_a_file(archive: Zip) -> None:
    members = {"a/x": b"1", "a/b/y": b"2", "ab/z": b"3"}
    assert archive(members, place="a").tree.names == {"a/x", "a/b/y"}
    assert archive(members, place="a/b/y").tree.names == {"a/b/y", "a/x"}  # and what lies above
    for place in ("c", "a/x/y", "../a", "/a"):
        with pytest.raises(PathNotFound):
            archive(members, place=place)


def test_what_lies_deep_in_a_compressed_member_waits_for_the_job(archive: Zip) -> None:
    source = archive({"deep": bytes(MAX_BEGINNING + 10)})
    assert source.read("deep", MAX_BEGINNING - 4, MAX_BEGINNING) == bytes(4)
    with pytest.raises(PackedTooDeep):
        source.read("deep", MAX_BEGINNING, MAX_BEGINNING + 4)
    stored = archive({"deep": bytes(MAX_BEGINNING + 10)}, STORED)
    assert stored.read("deep", MAX_BEGINNING, MAX_BEGINNING + 4) == bytes(4)


# --- row S22 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../x", "a/../../x", "/etc/x", "..\\x", "C:\\x", "D:x", "\\\\host\\share\\x", "a//b",
        "a/./b", ".", "x" * 300, "CON", "x.", "x ", "a\nb", "a\u2215b", "x\u202egnp.exe",
        "e\u0301", "a/../b/",
    ],
)  # fmt: skip
def test_s22_a_name_that_leads_out_refuses_the_whole_archive(archive: Zip, name: str) -> None:
    with pytest.raises((BrokenFile, UnsafeName)) as refused:
        archive({"cfg.json": b"{}", name: b"x"})
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("names", [("a", "A"), ("a", "a/b"), ("a", "A/b")])
def test_s22_members_that_would_be_one_file_are_refused(
    archive: Zip, names: tuple[str, str]
) -> None:
    with pytest.raises((BrokenFile, UnsafeName)):
        archive(dict.fromkeys(names, b"x"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_s22_so_are_two_of_the_same_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr("a", b"1")
        made.writestr("a", b"2")
    with pytest.raises(BrokenFile, match="same name"):
        ArchiveSource(tmp_path, "x.zip")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_s22_a_member_that_is_no_file_is_refused(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        member = zipfile.ZipInfo("cfg.json")
        member.external_attr = (kind | 0o777) << 16
        made.writestr(member, "/etc/passwd")
    with pytest.raises(BrokenFile, match="link"):
        ArchiveSource(tmp_path, "x.zip")


def test_s22_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    """Its ratio is what deflate can reach; what it declares is more than is ever unpacked."""
    good = zipped(tmp_path / "x.zip", {"a": bytes(2**20)}).read_bytes()
    place = good.rfind(b"PK\x01\x02") + 24
    for size in (2**32 - 2, 2**26):
        with pytest.raises(BrokenFile, match="cannot have"):
            opened(tmp_path, good[:place] + struct.pack("<I", size) + good[place + 4 :])
    members_of_terabytes(tmp_path / "x.zip", count=20)
    with pytest.raises(TooLarge, match="at most"):
        ArchiveSource(tmp_path, "x.zip")


def members_of_terabytes(path: Path, count: int) -> None:
    """Each declares no more than deflate can reach, all together more than is ever unpacked."""
    size, packed = 4_000_000_000, 4_000_000  # in a file that is a hole for the most part
    directory = b""
    with path.open("wb") as file:
        for number in range(count):
            name = f"m{number:02}".encode()
            directory += b"PK\x01\x02" + struct.pack(
                "<6H3L5H2L", 20, 20, 0, 8, 0, 0, 0, packed, size, len(name), 0, 0, 0, 0, 0,
                file.tell(),
            ) + name  # fmt: skip
            file.write(b"PK\x03\x04" + bytes(26) + name)
            file.seek(packed, 1)
        start = file.tell()
        file.write(directory + b"PK\x05\x06")
        file.write(struct.pack("<4H2LH", 0, 0, count, count, len(directory), start, 0))


@pytest.mark.parametrize("declared", [-1, 1])
def test_s22_a_size_that_lies_is_found_while_it_is_copied(tmp_path: Path, declared: int) -> None:
    content = bytes(range(256)) * 5000
    raw = zipped(tmp_path / "x.zip", {"a": content}).read_bytes()
    place = raw.rfind(b"PK\x01\x02") + 24
    size = struct.pack("<I", len(content) + declared)
    source = opened(tmp_path, raw[:place] + size + raw[place + 4 :])
    copied = io.BytesIO()
    with pytest.raises(BrokenFile, match="wrong size"), source.open("a") as file:
        while chunk := file.read(1000):
            copied.write(chunk)
    assert len(copied.getvalue()) <= len(content) + declared + 2**20


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_s22_a_changed_byte_is_found_by_its_checksum(tmp_path: Path, method: int) -> None:
    content = np.random.default_rng(1).bytes(100_000)
    raw = bytearray(zipped(tmp_path / "x.zip", {"a": content}, method).read_bytes())
    raw[50_000] ^= 1
    source = opened(tmp_path, bytes(raw))
    with pytest.raises(BrokenFile), source.open("a") as file:
        file.read()


def test_s22_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    raw = bytearray(zipped(tmp_path / "x.zip", {"a": b"secret"}).read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.rfind(mark) + place] |= 1
    with pytest.raises(BrokenFile, match="encrypted"):
        opened(tmp_path, bytes(raw))


def test_s22_a_million_members_are_refused_at_once(tmp_path: Path) -> None:
    raw = bytearray(zipped(tmp_path / "x.zip", {"a": b"x"}).read_bytes())
    end = raw.rfind(b"PK\x05\x06")
    raw[end + 8 : end + 12] = b"\xfe\xff\xfe\xff"
    with pytest.raises(SaeError, match="members"):
        opened(tmp_path, bytes(raw))


@pytest.mark.parametrize("cut", [1, 10, 30, 60, 100])
def test_s22_an_archive_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    raw = zipped(tmp_path / "x.zip", {"cfg.json": b"{}" * 100}, STORED).read_bytes()
    with pytest.raises(BrokenFile):
        opened(tmp_path, raw[:-cut])


@pytest.mark.parametrize("content", [b"", b"x", b"no zip at all" * 100, b"PK\x03\x04" * 50])
def test_s22_what_is_no_archive_is_told_so(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BrokenFile):
        opened(tmp_path, content)
