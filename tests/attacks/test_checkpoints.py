"""Rows S1, S3, S4, S9, S10 and S22 of the list of attacks: PyTorch checkpoints.

A checkpoint is a pickle in a zip: both are made up here byte by byte.
"""

import io
import pickle
import re
import stat
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from saes.formats import FolderSource
from saes.formats.files.opening import open_container
from saes.formats.files.pt import read_pt
from tests.attacks.test_files import Payload, archive, opened, pickles, refused


@pytest.mark.parametrize("kind", pickles())
@pytest.mark.parametrize("name", ["ae.pt", "last.ckpt", "pytorch_model.bin", "sae.pkl"])
def test_s1_a_file_that_runs_code_is_refused_and_does_not_run(
    name: str, kind: str, tmp_path: Path
) -> None:
    with refused("unsafe_format"):
        opened(tmp_path, name, pickles()[kind])
    with refused("unsafe_format"):
        read_pt(FolderSource(tmp_path), name)


def tar_of(*members: str) -> bytes:
    """As torch wrote before 0.1.10: a tar of pickles."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name in members:
            content = pickle.dumps(Payload(), protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_s3_a_tar_of_pickles_is_refused(tmp_path: Path) -> None:
    with refused("unsafe_format"):
        opened(tmp_path, "x.pt", tar_of("sys_info", "pickle", "storages", "tensors"))


GLOBALS = [
    "os.system", "builtins.eval", "builtins.getattr", "torch.load", "torch.hub.load", "numpy.load",
    "torch.storage._load_from_bytes", "torch._utils._rebuild_sparse_tensor", "_codecs.encode",
    "torch.jit.unsupported_tensor_ops.execWrapper", "numpy._core.multiarray.scalar",
    "collections.Counter", "copyreg._reconstructor", "pathlib.PosixPath", "sae_lens.config.Config",
]  # fmt: skip


@pytest.mark.parametrize("name", GLOBALS)
def test_s3_a_name_that_weights_do_not_need_is_refused_by_name(name: str, tmp_path: Path) -> None:
    module, _, function = name.rpartition(".")
    by_line = b"c" + f"{module}\n{function}\n".encode()
    by_stack = text(module) + text(function) + b"\x93"
    for asked in (by_line, by_stack):
        with refused("unsafe_format") as caught:
            opened(tmp_path, "x.pt", checkpoint(table(asked)))
        assert name in str(caught.value)


def test_s3_nothing_here_loads_a_pickle() -> None:
    """Neither torch's reader nor numpy's nor Python's, anywhere in the product."""
    forbidden = re.compile(
        r"torch\.load|allow_pickle\s*=\s*True|pickle\.loads?\(|Unpickler\(|torch\.jit|joblib"
        r"|import (cPickle|dill|cloudpickle|pickle)\b|from pickle import"
    )
    root = Path(__file__).parents[2]
    for folder in ("saes", "mistudio"):
        for path in (root / folder).rglob("*.py"):
            assert not forbidden.search(path.read_text()), path


# --- the pickle machine ---------------------------------------------------------------------------


def text(said: str) -> bytes:
    return b"X" + struct.pack("<I", len(said.encode())) + said.encode()


def table(value: bytes) -> bytes:
    """{"W_enc": value}"""
    return b"\x80\x02}" + text("W_enc") + value + b"s."


def checkpoint(made: bytes, **members: bytes) -> bytes:
    named = {name.replace("__", "/"): content for name, content in members.items()}
    return archive([("x/data.pkl", made), *((f"x/{name}", it) for name, it in named.items())])


def tensor(
    offset: int = 0, shape: Any = (2,), strides: Any = (1,), count: int = 2, key: str = "0",
    kind: str = "FloatStorage",
) -> bytes:  # fmt: skip
    """What torch writes for a tensor, with other numbers in it."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    storage += plain(count) + b"tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + plain(offset) + plain(shape)
        + plain(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def plain(value: Any) -> bytes:
    """The instructions for a number, a text or a tuple of these."""
    return pickle.dumps(value, protocol=2)[2:-1].replace(b"q\x00", b"")


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    """The other side of the tests below: it is the lie that is refused."""
    opened(tmp_path, "x.pt", checkpoint(table(tensor()), data__0=bytes(8)))


DOUBLED = b"(" + b"K\x01q\x00t" + b"".join(b"q\x00h\x00\x86" for _ in range(100))
MANY = b"](" + b"K\x01" * 50_000 + b"eq\x01"
PICKLES: dict[str, bytes] = {
    "instance": table(b"(ios\nsystem\n"),
    "object": table(b"(cbuiltins\neval\no"),
    "new object": table(b"ccollections\nOrderedDict\n)\x81"),
    "new object with names": table(b"ccollections\nOrderedDict\n)}\x92"),
    "extension": table(b"\x82\x01"),
    "wide extension": table(b"\x84" + b"\x01" * 4),
    "buffer": table(b"\x97"),
    "persistent by line": table(b"Px\n"),
    "attributes": b"\x80\x02}}" + text("__class__") + b"K\x01sb.",
    "attributes of a tensor": table(tensor() + b"}" + text("_metadata") + b"}sb"),
    "slots": b"\x80\x02}N}\x86b.",
    "a dtype called": table(b"ctorch\nfloat32\n)R"),
    "a text called": table(text("os.system") + b")R"),
    "a storage called": table(b"ctorch\nFloatStorage\n)R"),
    "a name as a table": b"\x80\x02ccollections\nOrderedDict\n" + text("a") + b"K\x01s.",
    "a list in itself": table(b"]q\x00h\x00a"),
    "a table in itself": b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
    "doubled a hundred times": table(DOUBLED),
    "doubled as a key": b"\x80\x02}" + DOUBLED + b"K\x01s.",
    "a list as a key": b"\x80\x02}]K\x01s.",
    "a tuple as a key": b"\x80\x02})K\x01s.",
    "true as a key": b"\x80\x02}\x88K\x01s.",
    "a number as a key and as a text": b"\x80\x02}(K\x01K\x01" + text("1") + b"K\x01u.",
    "odd items": b"\x80\x02}(K\x01u.",
    "endless number": table(b"\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20)),
    "number of negative length": table(b"\x8b" + struct.pack("<i", -1)),
    "number as text": table(b"L" + b"9" * 100_000 + b"L\n"),
    "endless text": table(b"X\xff\xff\xff\xff"),
    "endless bytes": table(b"\x8e" + b"\xff" * 8),
    "endless byte array": table(b"\x96" + b"\xff" * 8),
    "a lone surrogate": table(b"X\x03\0\0\0\xed\xa0\x80"),
    "a far place in the memo": table(b"K\x01r\xff\xff\xff\xff") + b"x",
    "a place never filled": table(b"h\x07"),
    "thirty thousand deep": table(b"]" * 30_000 + b"a" * 29_999),
    "tuples thirty thousand deep": table(b"N" + b"\x85" * 30_000),
    "a million steps": table(b"N" * 1_000_000),
    "thirty thousand values": table(b"](" + b"}" * 30_000 + b"e"),
    "the same list a thousand times": table(
        MANY + b"0" + b"ctorch\nSize\nq\x02" + b"h\x01\x85R0h\x02" * 10_000
    ),
    "marks": table(b"(" * 100),
    "mark as a value": b"\x80\x02(.",
    "mark remembered": table(b"(q\x00h\x00"),
    "nothing on the stack": b"\x80\x02s.",
    "two results": b"\x80\x02}}.",
    "no table": b"\x80\x02K\x01.",
    "no end": b"\x80\x02}",
    "more behind the end": b"\x80\x02}.}.",
    "unknown instruction": b"\x80\x02\xff.",
    "unknown protocol": b"\x80\x7f}.",
    "empty": b"",
    "a key of control characters": b"\x80\x02}" + text("a\nb") + b"K\x01s.",
    "an empty key": b"\x80\x02}" + text("") + b"K\x01s.",
    "an endless key": b"\x80\x02}" + text("a" * 10_000) + b"K\x01s.",
    "a storage as a value": table(tensor()[len(b"ctorch._utils\n_rebuild_tensor_v2\n(") :][:50]),
}


@pytest.mark.parametrize("name", PICKLES)
def test_s3_a_pickle_that_torch_does_not_write_is_refused(name: str, tmp_path: Path) -> None:
    with refused("broken_file", "unsafe_format"):
        opened(tmp_path, "x.pt", checkpoint(PICKLES[name], data__0=bytes(8)))


TENSORS: dict[str, bytes] = {
    "behind its numbers": tensor(offset=1),
    "far behind": tensor(offset=2**62),
    "negative offset": tensor(offset=-1),
    "larger than its numbers": tensor(shape=(3,)),
    "overflowing": tensor(shape=(2**62, 4), strides=(4, 1)),
    "overflowing to nothing": tensor(shape=(2**40, 2**40), strides=(2**40, 1)),
    "negative shape": tensor(shape=(-2,)),
    "true as a size": tensor(shape=(True,)),
    "a text as a shape": tensor(shape="22"),
    "a text in a shape": tensor(shape=("2",)),
    "no shape": tensor(shape=None),
    "too many axes": tensor(shape=(1,) * 100, strides=(1,) * 100),
    "strides of another rank": tensor(strides=(1, 1)),
    "negative stride": tensor(strides=(-1,)),
    "no stride": tensor(strides=(0,)),
    "more numbers than stored": tensor(count=3),
    "fewer numbers than stored": tensor(count=1, shape=(1,)),
    "wider numbers than stored": tensor(kind="DoubleStorage"),
    "numbers of no type": tensor(kind="ComplexFloatStorage"),
    "a dtype as a storage": tensor(kind="float32"),
    "a function as a storage": tensor(kind="Size"),
    "numbers that are not there": tensor(key="7"),
    "numbers in another folder": tensor(key="../data.pkl"),
    "numbers in the pickle": tensor(key="../../x/data.pkl"),
    "numbers in another script": tensor(key="\u0660"),
    "a long key": tensor(key="0" * 100_000),
}


@pytest.mark.parametrize("name", TENSORS)
def test_s9_a_checkpoint_that_lies_about_its_numbers_is_refused(name: str, tmp_path: Path) -> None:
    with refused("broken_file", "unsafe_format", "unsupported_architecture"):
        opened(tmp_path, "x.pt", checkpoint(table(TENSORS[name]), data__0=bytes(8)))


# --- archives -------------------------------------------------------------------------------------


def test_s4_altered_flags_change_nothing(tmp_path: Path) -> None:
    """In the member's own header and in the directory: never a road to an unchecked reading."""
    whole = pickles()["torch zip"]
    for place in (whole.index(b"PK\x03\x04") + 6, whole.index(b"PK\x01\x02") + 8):
        for bit in range(16):
            damaged = bytearray(whole)
            damaged[place + bit // 8] ^= 1 << bit % 8
            with refused("unsafe_format", "broken_file"):
                opened(tmp_path, "x.pt", bytes(damaged))


def test_s4_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    whole = bytearray(checkpoint(table(tensor()), data__0=bytes(8)))
    for at in [found.start() for found in re.finditer(b"PK\x01\x02", whole)]:
        damaged = bytearray(whole)
        damaged[at + 8] |= 1
        with refused("broken_file"):
            opened(tmp_path, "x.pt", bytes(damaged))


def test_s4_a_file_that_breaks_behind_the_payload_is_refused(tmp_path: Path) -> None:
    whole = pickles()["torch zip"]
    behind = whole.index(b"PK\x03\x04", 100)
    for broken in (whole[:behind], whole[:-1], whole[:-22], whole + b"\0", whole[:behind] + b"x"):
        with refused("broken_file"):
            opened(tmp_path, "x.pt", broken)


def test_s4_two_tables_of_contents_do_not_disagree(tmp_path: Path) -> None:
    """torch writes a wide end record too; a reader of the other one must not see other members."""
    file = io.BytesIO()
    torch.save({"a": torch.ones(3)}, file)
    at = file.getvalue().index(b"PK\x06\x06")
    for place in (at + 24, at + 32, at + 40, at + 48):
        damaged = bytearray(file.getvalue())
        damaged[place] ^= 1
        with refused("broken_file"):
            opened(tmp_path, "x.pt", bytes(damaged))


def test_s4_a_pickle_with_a_wrong_checksum_is_broken(tmp_path: Path) -> None:
    whole = checkpoint(table(tensor()), data__0=bytes(8)).replace(b"W_enc", b"W_dec")
    with refused("broken_file"):
        opened(tmp_path, "x.pt", whole)


def bomb(size: int, declared: int | None = None) -> bytes:
    """Zeros, packed a thousand to one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("x/data.pkl", table(tensor(shape=(2,))))
        made.writestr("x/data/0", bytes(size))
    whole = file.getvalue()
    at = whole.rindex(b"PK\x01\x02") + 24
    told = struct.pack("<I", size if declared is None else declared)
    return whole[:at] + told + whole[at + 4 :]


@pytest.mark.parametrize(
    ("size", "declared"), [(32 << 20, None), (32 << 20, 8), (100, 2**32 - 2), (16, 8), (4, 8)]
)
def test_s10_s22_a_checkpoint_that_unpacks_to_more_than_it_says_is_refused(
    size: int, declared: int | None, tmp_path: Path
) -> None:
    content = bomb(size, declared)
    with refused("broken_file", "too_large"):
        opened(tmp_path, "x.pt", content)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_s10_more_than_the_limit_is_not_unpacked(tmp_path: Path) -> None:
    """Each member within what its bytes can unpack to; together far too much."""
    packed = bytes(4 << 20)
    whole = bytearray(archive([(f"x/{n}", packed) for n in range(20)]))
    for found in list(re.finditer(b"PK\x01\x02", whole)):
        whole[found.start() + 10] = 8
        whole[found.start() + 24 : found.start() + 28] = struct.pack("<I", 2**32 - 2)
    with refused("too_large"):
        opened(tmp_path, "x.pt", bytes(whole))


def test_s10_a_pickle_that_unpacks_to_much_is_not_unpacked(tmp_path: Path) -> None:
    with refused("broken_file"):
        made = archive([("x/data.pkl", bytes(32 << 20))], zipfile.ZIP_DEFLATED)
        opened(tmp_path, "x.pt", made)


def linked(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("x/data.pkl", table(tensor()))
        made.writestr("x/data/0", bytes(8))
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        made.writestr(info, "/etc/passwd")
    return file.getvalue()


def held(name: str) -> bytes:
    return checkpoint(table(tensor()), data__0=bytes(8), **{"data__1": b""}).replace(
        b"x/data/1", name.encode()
    )


MEMBERS: dict[str, bytes] = {
    "leads out": held("../..//1"),
    "absolute": held("/etc/pas"),
    "drive and backslash": held("C:\\evil1"),
    "dots inside": held("x/../da1"),
    "control characters": held("x/data\n1"),
    "a link": linked("x/version"),
    "two pickles": checkpoint(table(tensor()), data__0=bytes(8), sub__data=b"").replace(
        b"x/sub/data", b"y/data.pkl"
    ),
    "no pickle": archive([("x/data/0", bytes(8))]),
    "a program": archive([("x/data.pkl", b"\x80\x02}."), ("x/code/a.py", b"")]),
    "a program's constants": archive([("x/constants.pkl", b"\x80\x02}.")]),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_s22_an_archive_with_odd_members_is_refused(name: str, tmp_path: Path) -> None:
    with refused("broken_file", "unsafe_format"):
        opened(tmp_path, "x.pt", MEMBERS[name])


def test_s22_a_million_members_are_refused_unread(tmp_path: Path) -> None:
    entry = b"PK\x01\x02" + bytes(42)
    end = b"PK\x05\x06" + bytes(4) + struct.pack("<HHIIH", 65535, 65535, 46 * 10**6, 4, 0)
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04" + entry * 10**6 + end)
    with refused("broken_file"):
        open_container(FolderSource(tmp_path), "x.pt")


def test_s22_members_over_one_another_are_refused(tmp_path: Path) -> None:
    """As a bomb does whose members share the same bytes."""
    whole = bytearray(archive([("x/data.pkl", table(tensor())), ("x/data/0", bytes(8))]))
    second = whole.rindex(b"PK\x01\x02")
    whole[second + 42 : second + 46] = bytes(4)
    with refused("broken_file"):
        opened(tmp_path, "x.pt", bytes(whole))
