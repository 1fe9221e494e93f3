"""The second reader of weight files, against the libraries that wrote them."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saes.converter import convert
from saes.errors import SaeError, UnsupportedArchitecture
from saes.formats.files.rereading import Reread, reopen
from saes.tensors import Floats

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def saved(path: Path, tree: Any, before: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(before)
        torch.save(tree, file)
    return path


def made(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(48, 16, generator=generator).to(dtype)


def whole(file: Reread, name: str) -> Floats:
    matrix = file.matrix(name)
    rows = np.concatenate([panel for _, panel in matrix.rows()])
    return rows.T if matrix.turned else rows


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_float_of_a_torch_file_is_read_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    file = reopen(saved(tmp_path / "a.pt", {"w": made(dtype), "b": made(dtype)[0]}))
    assert np.array_equal(whole(file, "w"), made(dtype).double().numpy())
    assert np.array_equal(file.vector("b"), made(dtype)[0].double().numpy())


def test_a_transposed_matrix_is_read_as_it_was(tmp_path: Path) -> None:
    file = reopen(
        saved(tmp_path / "a.pt", {"w": made().T, "row": made()[:1], "column": made().T[:1]})
    )
    assert file.matrix("w").turned
    assert np.array_equal(whole(file, "w"), made().T.double().numpy())
    assert np.array_equal(whole(file, "row"), made()[:1].double().numpy())


def test_tensors_that_share_their_numbers_are_read_from_their_place(tmp_path: Path) -> None:
    both = made()
    file = reopen(saved(tmp_path / "a.pt", {"all": both, "part": both[16:32]}))
    assert np.array_equal(whole(file, "part"), both[16:32].double().numpy())


def test_nested_tables_are_flattened_and_what_is_no_tensor_is_told(tmp_path: Path) -> None:
    tree = {
        "sae": {"w": torch.nn.Parameter(made()), "k": torch.tensor(7)},
        "activation": "TopK",
        "state": {"k": 5, "empty": {}},
        "several": [made(), made() * 2],
    }
    file = reopen(saved(tmp_path / "a.pt", tree))
    assert file.names == {"sae.w", "sae.k", "several.0", "several.1"}
    assert file.objects == {"activation": "TopK", "state.k": 5, "state.empty": {}}
    assert file.number("sae.k") == 7
    assert np.array_equal(whole(file, "several.1"), 2 * made().double().numpy())


def test_a_line_of_json_before_the_zip_is_stepped_over(tmp_path: Path) -> None:
    line = json.dumps({"schema": 1, "cfg": {}}).encode() + b"\n"
    file = reopen(saved(tmp_path / "sae.pt", {"w": made()}, before=line))
    assert np.array_equal(whole(file, "w"), made().double().numpy())


@pytest.mark.parametrize("beginning", [b"{", b"PK"])
def test_a_safetensors_file_that_begins_like_another_is_safetensors(
    beginning: bytes, tmp_path: Path
) -> None:
    save_file({"w": made()}, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    wanted = int.from_bytes(beginning, "little") + (256 if len(beginning) == 1 else 0)
    header = data[8 : 8 + length].rstrip().ljust(wanted)
    raw = wanted.to_bytes(8, "little") + header + data[8 + length :]
    assert raw.startswith(beginning)
    (tmp_path / "a.safetensors").write_bytes(raw)
    assert np.array_equal(whole(reopen(tmp_path / "a.safetensors"), "w"), made().double().numpy())


def test_npz_and_safetensors_are_read_the_same(tmp_path: Path) -> None:
    save_file({"w": made()}, tmp_path / "a.safetensors", {"k": "v"})
    np.savez(tmp_path / "a.npz", w=made().numpy(), t=np.asfortranarray(made().numpy()))
    one, other = reopen(tmp_path / "a.safetensors"), reopen(tmp_path / "a.npz")
    assert one.metadata == {"k": "v"}
    for file, name in ((one, "w"), (other, "w"), (other, "t")):
        assert np.array_equal(whole(file, name), made().double().numpy())


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"w": made()})
    data = bytearray(path.read_bytes())
    data[data.index(made().numpy().tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadZipFile):
        whole(reopen(path), "w")


@pytest.fixture
def without_sums() -> Iterator[None]:
    torch.serialization.set_crc32_options(False)
    yield
    torch.serialization.set_crc32_options(True)


@pytest.mark.parametrize("before", [b"", b'{"schema": 1}\n'], ids=["zip", "json"])
@pytest.mark.usefixtures("without_sums")
def test_a_torch_file_without_sums_is_read_as_well(before: bytes, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"w": made(), "b": made()[0]}, before)
    with zipfile.ZipFile(path) as archive:
        assert {member.CRC for member in archive.infolist()} == {0}
    file = reopen(path)
    assert np.array_equal(whole(file, "w"), made().double().numpy())
    assert np.array_equal(file.vector("b"), made()[0].double().numpy())


@pytest.mark.usefixtures("without_sums")
def test_a_torch_file_without_sums_is_converted_and_certified(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    names = {"weight": made(), "bias": made()[:, 0].clone()}
    tree = {f"encoder_linear.{name}": it for name, it in names.items()}
    tree |= {"decoder_linear.weight": made().T, "decoder_linear.bias": made()[0]}
    saved(tmp_path / "in" / "a.pt", tree)
    done = convert(tmp_path / "in", tmp_path / "out", where="a.pt")
    assert (done.info.format, done.certificate and done.certificate.passed) == ("goodfire", True)


WHOLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "bool")


@pytest.mark.parametrize("dtype", WHOLE)
def test_whole_numbers_of_every_width_are_read(dtype: str, tmp_path: Path) -> None:
    values = np.array([0, 1, 2, 100], dtype)
    save_file({"v": torch.from_numpy(values)}, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", v=values)
    saved(tmp_path / "a.pt", {"v": torch.from_numpy(values)})
    for name in ("a.safetensors", "a.npz", "a.pt"):
        assert reopen(tmp_path / name).vector("v").tolist() == values.astype(float).tolist()


def test_what_it_cannot_read_is_refused_in_a_sentence(tmp_path: Path) -> None:
    narrow = made().to(torch.float8_e4m3fn)
    save_file({"w": narrow}, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.safetensors", saved(tmp_path / "a.pt", {"w": narrow})):
        with pytest.raises(UnsupportedArchitecture, match="F8_E4M3"):
            whole(reopen(path), "w")


def test_no_code_in_a_pickle_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "canary",))

    saved(tmp_path / "a.pt", {"w": made(), "x": Evil()})
    with pytest.raises(SaeError) as caught:
        reopen(tmp_path / "a.pt")
    assert caught.value.code == "unsafe_format"
    assert not (tmp_path / "canary").exists()
