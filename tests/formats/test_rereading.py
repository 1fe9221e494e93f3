"""The second reader of weight files, against the libraries that wrote them."""

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saes.errors import SaeError
from saes.formats.rereading import Reread, reopen
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


def test_no_code_in_a_pickle_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "canary",))

    saved(tmp_path / "a.pt", {"w": made(), "x": Evil()})
    with pytest.raises(SaeError) as caught:
        reopen(tmp_path / "a.pt")
    assert caught.value.code == "unsafe_format"
    assert not (tmp_path / "canary").exists()
