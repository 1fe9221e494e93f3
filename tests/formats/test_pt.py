"""PyTorch checkpoints are described without being run: every file here is by torch itself."""

import io
import random
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saes.errors import BrokenFile, DiskFull, SaeError, UnsafeFormat, UnsupportedArchitecture
from saes.formats import FolderSource
from saes.formats.files.containers import Container
from saes.formats.files.inflate import ZipContent, unnamed_file
from saes.formats.files.npz import npz_of
from saes.formats.files.opening import open_container
from saes.formats.files.pickles import described
from saes.formats.files.pt import read_pt
from saes.formats.files.zips import read_zip
from tests.fixtures import SAMPLES
from tests.formats.test_containers import Watched, weight_bytes

CHECKPOINTS = [path for sample in SAMPLES for path in sorted(sample.repo.rglob("*.pt"))]
FLOATS = ("F64", "F32", "F16", "BF16")


def saved(folder: Path, content: Any, **how: Any) -> FolderSource:
    torch.save(content, folder / "x.pt", **how)
    return FolderSource(folder)


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and value:
            yield from flat(value, name)
        else:
            yield name, value


def check_against_torch(source: FolderSource, name: str) -> Container:
    """Every name, shape, number and text is the one that torch reads."""
    return check(source, name, torch.load(source.path(name), weights_only=True))


def check(source: FolderSource, name: str, content: Any) -> Container:
    container, truth = open_container(source, name), dict(flat(content))
    assert {*container.members, *container.objects} == set(truth)
    for key, value in truth.items():
        if not torch.is_tensor(value):
            assert container.objects[key] == value
        elif container.members[key].dtype in FLOATS:
            read = container.tensor(source, key).all().reshape(value.shape)
            assert np.array_equal(read, value.detach().double().numpy()), key
        else:
            assert container.shapes[key] == tuple(value.shape)
    return container


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem[:30])
def test_every_checkpoint_among_the_samples_is_read_as_torch_reads_it(path: Path) -> None:
    check_against_torch(FolderSource(path.parent), path.name)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_texts_numbers_parameters_and_nested_tables_are_described(
    protocol: int, tmp_path: Path
) -> None:
    layer = torch.nn.Linear(3, 5)
    marked = torch.nn.Parameter(torch.ones(3))
    marked.note = "an attribute"  # type: ignore[attr-defined]
    tensor = torch.arange(4.0)
    tensor.note = "an attribute"  # type: ignore[attr-defined]
    content = OrderedDict(
        ae=layer.state_dict(),
        parameter=torch.nn.Parameter(torch.ones(2, 3)),
        marked=marked,
        tensor=tensor,
        activation="TopK",
        state={"k": 32, "postact": None, "rate": 0.5, "on": True, "big": 2**63, "minus": -7},
        by_number={0: torch.ones(2), 1: torch.zeros(2)},
        group_sizes=[1, 2, 3],
        empty={},
    )
    container = check(saved(tmp_path, content, pickle_protocol=protocol), "x.pt", content)
    assert container.shapes["ae.weight"] == (5, 3)
    assert container.shapes["by_number.1"] == (2,)
    assert container.objects["state.k"] == 32


def test_dtypes_devices_and_sizes_are_told_in_words(tmp_path: Path) -> None:
    told = {"dtype": torch.bfloat16, "device": torch.device("cuda", 1), "size": torch.Size([2, 3])}
    container = read_pt(saved(tmp_path, told), "x.pt")
    assert container.objects == {"dtype": "torch.bfloat16", "device": "cuda:1", "size": [2, 3]}


def test_lists_of_tensors_are_numbered(tmp_path: Path) -> None:
    content = {"layers": [torch.ones(2), torch.zeros(3)], "groups": [{"lr": 0.1}, {"lr": 0.2}]}
    container = read_pt(saved(tmp_path, content), "x.pt")
    assert container.shapes == {"layers.0": (2,), "layers.1": (3,)}
    assert container.objects == {"groups.0.lr": 0.1, "groups.1.lr": 0.2}


DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64",
    torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_named_and_only_floats_are_weights(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    source = saved(tmp_path, {"a": torch.arange(6).reshape(2, 3).to(dtype)})
    container = read_pt(source, "x.pt")
    assert container.members["a"].dtype == DTYPES[dtype]
    if DTYPES[dtype] in FLOATS:
        assert container.tensor(source, "a").all().tolist() == [[0, 1, 2], [3, 4, 5]]
    else:
        with pytest.raises(UnsupportedArchitecture, match=DTYPES[dtype]):
            container.tensor(source, "a")


NUMBERS = [dtype for dtype, word in DTYPES.items() if word not in ("F8_E4M3", "F8_E5M2", "BOOL")]


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_one_number_is_read_by_its_few_bytes(
    dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path
) -> None:
    saved(tmp_path, {"k": torch.full(shape, 7).to(dtype), "W": torch.ones(1000, 10)})
    source = Watched(tmp_path)
    container = read_pt(source, "x.pt")
    source.ranges.clear()
    value = container.scalar(source, "k")
    assert value == 7
    assert isinstance(value, float if DTYPES[dtype] in FLOATS else int)
    assert sum(stop - start for _, start, stop in source.ranges) < 100
    with pytest.raises(BrokenFile, match="one number"):
        container.scalar(source, "W")


def test_one_number_of_a_safetensors_file_and_of_an_npz_is_read(tmp_path: Path) -> None:
    save_file({"a": torch.tensor(1.5, dtype=torch.bfloat16)}, tmp_path / "a")
    np.savez_compressed(tmp_path / "b.npz", a=np.array([-3], np.int16))
    source = FolderSource(tmp_path)
    assert open_container(source, "a").scalar(source, "a") == 1.5
    assert open_container(source, "b.npz").scalar(source, "a") == -3


# --- views --------------------------------------------------------------------------------------


def test_turned_matrices_parts_and_shared_numbers_are_read_in_place(tmp_path: Path) -> None:
    whole = torch.randn(7, 4)
    content = {
        "turned": whole.t(), "rows": whole[2:5], "row": whole[6], "tied": whole,
        "one column": torch.randn(5, 1).t(), "one": whole[3:4, 1:2],
        "deep": torch.randn(2, 3, 4), "turned rows": whole[2:5].t(),
        "bf16": whole.to(torch.bfloat16).t(),
    }  # fmt: skip
    container = check_against_torch(saved(tmp_path, content), "x.pt")
    assert container.members["turned"].fortran
    assert not container.members["one column"].fortran


VIEWS = {
    "expanded": torch.ones(1).expand(5),
    "columns": torch.ones(4, 6)[:, :3],
    "every second": torch.ones(10)[::2],
    "turned cube": torch.ones(2, 3, 4).permute(2, 1, 0),
    "overlapping": torch.arange(10.0).unfold(0, 4, 2),
}


@pytest.mark.parametrize("name", VIEWS)
def test_other_strides_are_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitecture, match="W_enc"):
        read_pt(saved(tmp_path, {"W_enc": VIEWS[name]}), "x.pt")


def test_a_view_that_negates_is_refused(tmp_path: Path) -> None:
    """Its stored numbers have the wrong sign."""
    view = torch.imag(torch.ones(3, dtype=torch.complex64).conj())
    assert view.is_neg()
    with pytest.raises(SaeError):
        read_pt(saved(tmp_path, {"b_enc": view}), "x.pt")


def test_a_tensor_without_numbers_is_told_of_and_not_read(tmp_path: Path) -> None:
    source = saved(tmp_path, {"a": torch.ones(0, 3)})
    container = read_pt(source, "x.pt")
    assert container.shapes == {"a": (0, 3)}
    with pytest.raises(BrokenFile, match="without a number"):
        container.tensor(source, "a")


# --- where the bytes lie ------------------------------------------------------------------------


def test_a_header_takes_few_reads_and_no_weight(tmp_path: Path) -> None:
    saved(tmp_path, {f"t{n}": torch.ones(100) for n in range(500)})
    source = Watched(tmp_path)
    assert len(read_pt(source, "x.pt").members) == 500
    assert len(source.ranges) == 4
    weights = weight_bytes(tmp_path / "x.pt")
    assert len(weights) == 500
    for _, start, stop in source.ranges:
        assert all(stop <= place.start or start >= place.stop for place in weights)


def test_a_zip_behind_a_line_of_json_is_read_from_where_it_begins(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save({"W_dec": torch.arange(6.0).reshape(2, 3)}, file)
    line = b'{"schema": 1}\n'
    (tmp_path / "sae.pt").write_bytes(line + file.getvalue())
    source = FolderSource(tmp_path)
    container = read_pt(source, "sae.pt", start=len(line))
    assert container.tensor(source, "W_dec").all().tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(BrokenFile):
        read_pt(source, "sae.pt", start=len(line) + 1)
    with pytest.raises(BrokenFile):
        open_container(source, "sae.pt")


def test_a_checkpoint_that_was_saved_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        source = saved(tmp_path, {"a": torch.arange(6.0).reshape(2, 3).t()})
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    assert read_zip(source, "x.pt")["x/data.pkl"].crc == 0
    check_against_torch(source, "x.pt")


def rezipped(path: Path, compression: int = zipfile.ZIP_DEFLATED, **changed: bytes) -> None:
    """As somebody would who unpacks a file and packs it again."""
    with zipfile.ZipFile(path) as archive:
        members = {"x/": b"", **{name: archive.read(name) for name in archive.namelist()}}
    members |= {f"x/{name.replace('__', '.')}": content for name, content in changed.items()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_file_that_was_packed_again_is_read(compression: int, tmp_path: Path) -> None:
    whole = torch.randn(700, 400)
    saved(tmp_path, {"W": whole, "turned": whole.t(), "b": whole[3], "k": torch.tensor(32)})
    rezipped(tmp_path / "x.pt", compression)
    source = FolderSource(tmp_path)
    container = check_against_torch(source, "x.pt")
    assert container.scalar(source, "k") == 32
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_what_is_inflated_lies_where_tmpdir_says_or_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "told").mkdir()
    np.savez_compressed(tmp_path / "a.npz", a=np.ones(3))
    (entry,) = read_zip(FolderSource(tmp_path), "a.npz").values()
    for told, folder in ((None, tmp_path), (tmp_path / "told",) * 2, ("/nowhere", tmp_path)):
        monkeypatch.setenv("TMPDIR", str(told)) if told else monkeypatch.delenv("TMPDIR", False)
        with unnamed_file(tmp_path, entry) as file:
            assert Path(f"/proc/self/fd/{file.fileno()}").readlink().parent == folder
    with pytest.raises(DiskFull):
        unnamed_file(tmp_path, replace(entry, size=1 << 60))


@pytest.mark.parametrize("member", ["crc", "size"])
def test_inflated_weights_that_are_not_what_was_declared_are_broken(
    member: str, tmp_path: Path
) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(4000.0))
    source = FolderSource(tmp_path)
    (entry,) = read_zip(source, "a.npz").values()
    wrong = replace(entry, **{member: getattr(entry, member) - 8})
    npz = npz_of(source, "a.npz", {"a.npy": wrong}) if member == "crc" else None
    content = ZipContent(wrong)
    with pytest.raises(BrokenFile, match=r"a\.npy"):
        (npz.tensor(source, "a").all() if npz else content.unpacked(source))


def test_what_a_file_is_its_bytes_tell_and_not_its_name(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3.0)}
    torch.save(tensors, tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "a.pt")
    with (tmp_path / "b.pt").open("wb") as file:
        np.savez(file, a=np.arange(3.0))
    source = FolderSource(tmp_path)
    for name in ("a.safetensors", "a.pt", "b.pt"):
        assert open_container(source, name).tensor(source, "a").all().tolist() == [0, 1, 2]


# --- what is refused ----------------------------------------------------------------------------


def test_a_whole_model_is_refused_by_the_class_that_it_asks_for(tmp_path: Path) -> None:
    source = saved(tmp_path, torch.nn.Linear(2, 2))
    with pytest.raises(UnsafeFormat, match=r"torch\.nn\.modules\.linear\.Linear"):
        open_container(source, "x.pt")


def test_a_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"x/{name}", b"\x80\x02}.")
    with pytest.raises(UnsafeFormat, match="TorchScript"):
        open_container(FolderSource(tmp_path), "x.pt")


def test_big_endian_numbers_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, {"a": torch.ones(3)})
    rezipped(tmp_path / "x.pt", byteorder=b"big")
    with pytest.raises(BrokenFile, match="big-endian"):
        open_container(source, "x.pt")


def test_files_of_before_1_6_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, {"a": torch.ones(3)}, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeFormat, match=r"1\.6"):
        open_container(source, "x.pt")


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    source = saved(tmp_path, {"a": torch.ones(3), "b": 1})
    whole = (tmp_path / "x.pt").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        with pytest.raises(BrokenFile):
            open_container(source, "x.pt")


def is_same_or_refused(source: FolderSource, truth: list[float]) -> bool:
    try:
        container = open_container(source, "x.pt")
        assert list(container.members) == ["a"]
        return bool(container.tensor(source, "a").all().tolist() == truth)
    except SaeError:
        return True


def test_a_flipped_byte_is_refused_or_changes_nothing_but_numbers(tmp_path: Path) -> None:
    source = saved(tmp_path, {"a": torch.ones(3)})
    whole = (tmp_path / "x.pt").read_bytes()
    (weights,) = weight_bytes(tmp_path / "x.pt")
    for at in set(range(len(whole))) - set(weights):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        (tmp_path / "x.pt").write_bytes(damaged)
        assert is_same_or_refused(source, [1, 1, 1]), at


def test_a_pickle_of_noise_never_ends_in_a_traceback(tmp_path: Path) -> None:
    saved(tmp_path, {"a": torch.ones(3), "b": {"c": [1, "x"]}})
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        pickle = archive.read("x/data.pkl")
    chance = random.Random(0)
    for _ in range(20_000):
        damaged = bytearray(pickle)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            described("x.pt", bytes(damaged))
        except SaeError as refusal:
            assert len(str(refusal)) < 400


def test_a_checkpoint_with_noise_in_its_pickle_never_ends_in_a_traceback(tmp_path: Path) -> None:
    source = saved(tmp_path, {"a": torch.ones(3), "b": {"c": [1, "x"]}})
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        pickle = archive.read("x/data.pkl")
    chance = random.Random(1)
    for _ in range(500):
        damaged = bytearray(pickle)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        rezipped(tmp_path / "x.pt", zipfile.ZIP_STORED, data__pkl=bytes(damaged))
        assert_read_or_refused(source)


def assert_read_or_refused(source: FolderSource) -> None:
    try:
        container = open_container(source, "x.pt")
        for name, member in container.members.items():
            if member.dtype in FLOATS and member.nbytes:
                container.tensor(source, name).all()
    except SaeError as refusal:
        assert len(str(refusal)) < 600
