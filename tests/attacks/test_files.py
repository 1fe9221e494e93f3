"""Rows S2, S5, S7 to S11 of the list of attacks: hostile weight files and configurations.

Each must be refused with a sentence, at once, and without memory being taken for what it claims.
"""

import io
import json
import os
import pickle
import struct
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saes.converter import inspect
from saes.errors import BrokenFile, SaeError
from saes.formats import FolderSource
from saes.formats.files.opening import open_container
from tests.fixtures import tensors, write_saelens

CANARY = Path(tempfile.gettempdir()) / f"mistudio-canary-{os.getpid()}"


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (CANARY,)


@contextmanager
def refused(*codes: str) -> Iterator[pytest.ExceptionInfo[SaeError]]:
    """One of these codes, in seconds of work, with less than 100 MB taken.

    Counting what is taken makes the work several times slower, and machines differ.
    """
    CANARY.unlink(missing_ok=True)
    tracemalloc.start()
    began = time.process_time()  # of this process: others may be at work beside it
    with pytest.raises(SaeError) as caught:
        yield caught
    taken = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code in codes
    assert not CANARY.exists()
    assert peak < 100 << 20
    assert taken < 10


def saelens_with(folder: Path, weights: bytes) -> Path:
    write_saelens(folder)
    (folder / "sae_weights.safetensors").write_bytes(weights)
    return folder


def npz_with(folder: Path, content: bytes) -> Path:
    (folder / "params.npz").write_bytes(content)
    return folder


def pickles() -> dict[str, bytes]:
    file = io.BytesIO()
    torch.save({"W_enc": Payload()}, file)
    legacy = io.BytesIO()
    torch.save({"W_enc": Payload()}, legacy, _use_new_zipfile_serialization=False)
    made = {f"protocol {n}": pickle.dumps(Payload(), protocol=n) for n in range(2, 6)}
    return {**made, "torch zip": file.getvalue(), "torch legacy": legacy.getvalue()}


def opened(folder: Path, name: str, content: bytes) -> None:
    """Read as far as a weight can be: header, then every number."""
    (folder / name).write_bytes(content)
    source = FolderSource(folder)
    container = open_container(source, name)
    for tensor in container.members:
        container.tensor(source, tensor).all()


@pytest.mark.parametrize("kind", pickles())
def test_s2_a_pickle_under_another_name_is_never_opened(kind: str, tmp_path: Path) -> None:
    content = pickles()[kind]
    with refused("unsafe_format", "broken_file"):
        inspect(saelens_with(tmp_path / "safetensors", content))
    (tmp_path / "npz").mkdir()
    with refused("unsafe_format", "broken_file"):
        inspect(npz_with(tmp_path / "npz", content))
    for name in ("sae_weights.SafeTensors", "sae_weights.safetensors", "params.npz"):
        with refused("unsafe_format"):
            opened(tmp_path, name, content)
    write_saelens(tmp_path / "cfg")
    (tmp_path / "cfg" / "cfg.json").write_bytes(content)
    with refused("broken_file"):
        inspect(tmp_path / "cfg")


def test_s5_an_npz_of_python_objects_is_refused(tmp_path: Path) -> None:
    objects = np.array([Payload()], dtype=object)
    np.savez(
        tmp_path / "params.npz", allow_pickle=True, **{**tensors("jumprelu"), "b_enc": objects}
    )
    with refused("unsafe_format"):
        inspect(tmp_path)


LENGTHS = [2**63 - 1, 0xFFFFFF00000000, 10**6, 0, 1, 2**24 + 1]


@pytest.mark.parametrize("length", LENGTHS)
def test_s7_an_impossible_header_length_costs_nothing(length: int, tmp_path: Path) -> None:
    with refused("broken_file"):
        inspect(saelens_with(tmp_path, struct.pack("<Q", length) + b"{}" * 50))


def test_s7_a_file_of_three_bytes(tmp_path: Path) -> None:
    with refused("broken_file"):
        inspect(saelens_with(tmp_path, b"abc"))


def file_of(header: Any, data: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def entry(begin: int = 0, end: int = 4, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_s8_a_hundred_thousand_overlapping_tensors_are_refused_in_a_second(tmp_path: Path) -> None:
    folder = saelens_with(tmp_path, file_of({f"t{n}": entry(0, 4) for n in range(100_000)}, 4))
    with refused("broken_file"):
        inspect(folder)


ENTRY = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HEADERS: dict[str, tuple[Any, int]] = {
    "product overflows": ({"a": entry(shape=[2, 18446744073709551614])}, 4),
    "product overflows to fit": ({"a": entry(0, 0, [2**32, 2**32])}, 0),
    "past the end": ({"a": entry(0, 8, [2])}, 4),
    "negative": ({"a": entry(-4, 0)}, 4),
    "backwards": ({"a": entry(4, 0)}, 4),
    "negative shape": ({"a": entry(shape=[-1])}, 4),
    "true as a number": ({"a": entry(shape=[True])}, 4),
    "float offsets": ({"a": {**entry(), "data_offsets": [0, 4.0]}}, 4),
    "shape and size disagree": ({"a": entry(shape=[2])}, 4),
    "unknown dtype": ({"a": entry(dtype="PICKLE")}, 4),
    "dtype is a list": ({"a": entry(dtype=["F32"])}, 4),
    "overlap": ({"a": entry(0, 8, [2]), "b": entry(4, 8)}, 8),
    "gap": ({"a": entry(0, 4), "b": entry(8, 12)}, 12),
    "trailing bytes": ({"a": entry()}, 100),
    "two bytes missing": ({"a": entry()}, 2),
    "extra key": ({"a": {**entry(), "eval": "x"}}, 4),
    "no tensors": ({}, 0),
    "a list": ([1, 2], 0),
    "a number": (b"12345678", 0),
    "metadata of numbers": ({"__metadata__": {"a": 1}, "a": entry()}, 4),
    "twice": (b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}", 4),
    "NaN": (b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', 4),
    "infinity": (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,Infinity]}}', 4),
    "huge number": (b'{"a":' + ENTRY.replace(b"[1]", b"[" + b"9" * 10_000 + b"]") + b"}", 4),
    "ten thousand deep": (b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 0),
    "invalid UTF-8": (b'{"\xff\xfe":1}', 0),
    "name of control characters": ({"a\x00b": entry()}, 4),
    "endless name": ({"a" * 100_000: entry()}, 4),
    "too many axes": ({"a": entry(shape=[1] * 100)}, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_s9_a_header_that_lies_is_broken(name: str, tmp_path: Path) -> None:
    with refused("broken_file"):
        inspect(saelens_with(tmp_path, file_of(*HEADERS[name])))


def test_s9_metadata_of_fifty_megabytes_is_not_read(tmp_path: Path) -> None:
    folder = saelens_with(tmp_path, file_of({"__metadata__": {"a": "x" * (50 << 20)}}))
    with refused("broken_file"):
        inspect(folder)


def archive(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, content in members:
            made.writestr(name, content)
    return file.getvalue()


def npy(shape: str = "(4,)", descr: str = "'<f4'", data: int = 16) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(data)


ARCHIVES: dict[str, bytes] = {
    "a bomb": archive([("W_enc.npy", npy(data=50 << 20))], zipfile.ZIP_DEFLATED),
    "a trillion rows": archive([("W_enc.npy", npy("(1000000000000,)"))]),
    "rows that overflow": archive([("W_enc.npy", npy("(4611686018427387904, 4)", data=0))]),
    "leads out": archive([("../x.npy", npy())]),
    "absolute": archive([("/etc/x.npy", npy())]),
    "control characters": archive([("a\nb.npy", npy())]),
    "not an array": archive([("W_enc.npy", b"x" * 500)]),
    "code as a shape": archive([("W_enc.npy", npy("__import__('os').getcwd()"))]),
    "deep header": archive([("W_enc.npy", npy("(" * 50))]),
    "objects": archive([("W_enc.npy", npy(descr="'|O'"))]),
    "records": archive([("W_enc.npy", npy(descr="[('a', '<f4')]"))]),
    "big-endian": archive([("W_enc.npy", npy(descr="'>f4'"))]),
    "empty": archive([]),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_s10_an_npz_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    with refused("broken_file", "unsafe_format"):
        inspect(npz_with(tmp_path, ARCHIVES[name]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_s10_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    with refused("broken_file"):
        inspect(npz_with(tmp_path, archive([("W_enc.npy", npy()), ("W_enc.npy", npy())])))


def test_s10_every_flipped_byte_of_a_directory_is_refused_or_read_rightly(tmp_path: Path) -> None:
    whole = bytearray(archive([(f"{name}.npy", npy()) for name in ("W_enc", "b_enc")]))
    start = whole.index(b"PK\x01\x02")
    for at in range(start, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        with pytest.raises(SaeError):
            inspect(npz_with(tmp_path, bytes(damaged)))


CONFIGS: dict[str, bytes] = {
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a little too deep": b'{"a":' * 40 + b"1" + b"}" * 40,
    "byte order mark": b'\xef\xbb\xbf{"architecture": "standard"}',
    "UTF-16": '{"architecture": "standard"}'.encode("utf-16"),
    "NaN": b'{"architecture": "standard", "d_in": NaN}',
    "a key twice": b'{"architecture": "standard", "architecture": "gated"}',
    "endless number": b'{"d_in": ' + b"9" * 100_000 + b"}",
    "empty": b"",
    "a list": b"[]",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_s11_a_configuration_that_is_no_json_object_is_broken(name: str, tmp_path: Path) -> None:
    write_saelens(tmp_path)
    (tmp_path / "cfg.json").write_bytes(CONFIGS[name])
    with refused("broken_file"):
        inspect(tmp_path)


def test_s11_a_configuration_of_two_hundred_megabytes_is_not_read(tmp_path: Path) -> None:
    write_saelens(tmp_path)
    with (tmp_path / "cfg.json").open("ab") as file:
        file.truncate(200 << 20)
    with refused("too_large"):
        inspect(tmp_path)


@pytest.mark.parametrize("value", [1e308, -1, 0, True, "12", [12], {}, 10**30])
@pytest.mark.parametrize("key", ["d_sae", "d_in"])
def test_s11_a_wrong_number_is_refused_by_its_key(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match=key):
        inspect(write_saelens(tmp_path, **{key: value}))


@pytest.mark.parametrize("hook", ["x" * (1 << 19), "blocks.3\x00", "a\nb", 7, ["x"], {"x": 1}])
def test_s11_a_hostile_hook_name_is_refused_by_its_key(hook: Any, tmp_path: Path) -> None:
    told = {"sae_lens_version": "6.0.0", "hook_name": hook}
    with pytest.raises(SaeError, match=r"metadata\.hook_name") as caught:
        inspect(write_saelens(tmp_path, metadata=told))
    assert len(str(caught.value)) < 300


def test_s11_keys_that_nobody_knows_are_ignored(tmp_path: Path) -> None:
    told = {"sae_lens_version": "6.0.0", "constructor": "x"}
    assert inspect(write_saelens(tmp_path, metadata=told, __proto__="x")).get("d_in") == 16


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "in")
    (folder / "cfg.json").rename(tmp_path / "elsewhere.json")
    (folder / "cfg.json").symlink_to(tmp_path / "elsewhere.json")
    with refused("unknown_format"):
        inspect(folder)
