"""Large SAEs of every family: the samples, grown. Their small files stay what they were."""

import json
import re
import shutil
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from saes.converter import inspect
from tests.fixtures import SAMPLES, Sample, write_saelens

BIASED = np.float32(-0.5)  # so that a part of the features fires, not half of them
NOT_WIDTHS = ("k", "top_k", "layer")


def one_of_each_family() -> dict[str, Sample]:
    """By the slug of its format: the first sample of each."""
    found: dict[str, Sample] = {}
    for sample in SAMPLES:
        slug = inspect(sample.repo, sample.where, sample.repo_id, sample.facts).format
        found.setdefault(slug, sample)
    return found


def saelens(folder: Path, d_in: int, d_sae: int) -> Path:
    """A standard SAE in float32, as SAELens 6 writes it; of any size, so written part by part."""
    write_saelens(folder, d_in=d_in, d_sae=d_sae)
    shapes = {"W_dec": (d_sae, d_in), "W_enc": (d_in, d_sae), "b_dec": (d_in,), "b_enc": (d_sae,)}
    header, end = dict[str, Any](), 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    random, text = np.random.default_rng(0), json.dumps(header).encode()
    with (folder / "sae_weights.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            rows = shape if len(shape) == 1 else shape[1:]
            for _ in range(prod(shape) // prod(rows)):
                numbers = random.standard_normal(rows, np.float32) / np.float32(d_in**0.5)
                file.write((numbers if len(shape) == 2 else numbers + BIASED).tobytes())
    return folder


def grown(sample: Sample, folder: Path, nbytes: int) -> Path:
    """The sample with each of its two widths so many times larger that it has about `nbytes`."""
    shutil.copytree(sample.repo, folder)
    size = sum(path.stat().st_size for path in weights(folder))
    info = inspect(sample.repo, sample.where, sample.repo_id, sample.facts)
    factor = max(1, round((nbytes / size) ** 0.5))
    widths = {int(info.get(name)): int(info.get(name)) * factor for name in ("d_in", "d_sae")}
    for path in weights(folder):
        _grow(path, widths)
    for path in folder.rglob("*.json"):
        path.write_text(json.dumps(_restated(json.loads(path.read_text()), widths)))
    for path in folder.rglob("*.yaml"):
        path.write_text(
            re.sub(
                r"(?<=: )\d+$",
                lambda it: str(_restated(int(it[0]), widths)),
                path.read_text(),
                flags=re.M,
            )
        )
    return folder


def weights(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".npz", ".pt")]


def _grow(path: Path, widths: dict[int, int]) -> None:
    if path.suffix == ".safetensors":
        save_file(_tree(load_file(path), widths), path)
    elif path.suffix == ".pt":
        torch.save(_tree(torch.load(path, weights_only=True), widths), path)
    else:
        with np.load(path) as arrays:
            held = {name: torch.from_numpy(arrays[name]) for name in arrays}
        np.savez(path, **{name: it.numpy() for name, it in _tree(held, widths).items()})


def _tree(held: Any, widths: dict[int, int]) -> Any:
    if isinstance(held, dict):
        return {name: _tree(it, widths) for name, it in held.items()}
    return _larger(held, widths) if isinstance(held, torch.Tensor) else _restated(held, widths)


def _larger(tensor: torch.Tensor, widths: dict[int, int]) -> torch.Tensor:
    """A matrix of random numbers as long as the sample's; a vector repeats the sample's."""
    shape = [widths.get(length, length) for length in tensor.shape]
    if tensor.dim() == 1:
        return tensor.repeat(shape[0] // tensor.shape[0])
    if tensor.dim() != 2:
        return tensor
    by_columns = tensor.stride(0) == 1 != tensor.stride(1)
    random = torch.Generator().manual_seed(len(shape))
    spread = float(tensor.float().std()) * (tensor.numel() / (shape[0] * shape[1])) ** 0.25
    made = torch.randn(shape[::-1] if by_columns else shape, generator=random) * spread
    turned: torch.Tensor = made.T if by_columns else made
    return turned.to(tensor.dtype)


def _restated(told: Any, widths: dict[int, int]) -> Any:
    if isinstance(told, dict):
        return {
            key: value if key in NOT_WIDTHS else _restated(value, widths)
            for key, value in told.items()
        }
    return widths.get(told, told) if type(told) is int else told
