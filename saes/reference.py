"""Plain forwards of whole SAEs, written from their definitions, for the certificate.

Nothing here goes through the converter's readers: weights come from the safetensors library's own
slices or from numpy's own arrays. Rows are streamed; no matrix is ever whole in memory. The only
file that imports torch, and only when a function is called.
"""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from saes.errors import BrokenFile

if TYPE_CHECKING:
    from torch import Tensor

PANEL = 4 << 20  # bytes read at a time, before they become float64
Tick = Callable[[int], None]  # told of each panel's bytes
Activation = Callable[["Tensor"], "Tensor"]  # of x @ W_enc, which it may overwrite, to save memory


def no_tick(count: int) -> None:
    pass


class Reference(Protocol):
    """One SAE as its family defines it, in float64. x is [n, d_in], acts are [n, d_sae]."""

    @property
    def d_in(self) -> int: ...

    @property
    def d_sae(self) -> int: ...

    def encode(self, x: "Tensor", tick: Tick) -> "Tensor": ...

    def decode(self, acts: "Tensor", x: "Tensor", tick: Tick) -> "Tensor": ...


class Rows(Protocol):
    """The rows of a stored matrix, in order, as (first row, panel)."""

    def __call__(self) -> Iterator[tuple[int, "Tensor"]]: ...


@dataclass(frozen=True)
class Matrix:
    """A stored matrix, or its transpose."""

    rows: Rows
    stored: tuple[int, int]
    itemsize: int
    turned: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.stored[::-1] if self.turned else self.stored

    @property
    def transposed(self) -> "Matrix":
        return Matrix(self.rows, self.stored, self.itemsize, not self.turned)

    def after(self, x: "Tensor", tick: Tick = no_tick) -> "Tensor":
        """x @ self."""
        import torch

        out = torch.zeros(x.shape[0], self.shape[1], dtype=torch.float64)
        for start, panel in self.rows():
            stop = start + panel.shape[0]
            if self.turned:
                out[:, start:stop] = x @ panel.T
            else:
                out.addmm_(x[:, start:stop], panel)
            tick(panel.numel() * self.itemsize)
        return out

    def row_norms(self) -> "Tensor":
        """The length of each row as stored."""
        import torch

        return torch.cat([panel.norm(dim=1) for _, panel in self.rows()])

    def column_norms(self) -> "Tensor":
        """The length of each column as stored."""
        import torch

        squares = torch.zeros(self.stored[1], dtype=torch.float64)
        for _, panel in self.rows():
            squares += panel.square().sum(dim=0)
        return squares.sqrt()


class SafetensorsFile:
    """By the safetensors library."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._file: Any = safe_open(path, framework="pt")
        self.names = {str(name) for name in _keys(self._file)}

    def metadata(self) -> dict[str, str]:
        return dict(self._file.metadata() or {})

    def vector(self, name: str) -> "Tensor":
        return self._file.get_tensor(name).double()  # type: ignore[no-any-return]

    def matrix(self, name: str) -> Matrix:
        stored = self._file.get_slice(name)
        rows, columns = stored.get_shape()
        itemsize = {"F64": 8, "F32": 4}.get(stored.get_dtype(), 2)
        step = max(1, PANEL // (columns * itemsize))

        def panels() -> Iterator[tuple[int, "Tensor"]]:
            for start in range(0, rows, step):
                yield start, stored[start : start + step].double()

        return Matrix(panels, (rows, columns), itemsize)


def _keys(file: Any) -> list[str]:
    return list(file.keys())


class NpzFile:
    """By zipfile and numpy's own array header reader."""

    def __init__(self, path: Path, rename: Callable[[str], str] = str) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            self._members = {rename(name.removesuffix(".npy")): name for name in archive.namelist()}

    def vector(self, name: str) -> "Tensor":
        import torch

        with zipfile.ZipFile(self._path) as archive, archive.open(self._members[name]) as file:
            return torch.from_numpy(np.lib.format.read_array(file, allow_pickle=False)).double()

    def matrix(self, name: str) -> Matrix:
        with zipfile.ZipFile(self._path) as archive, archive.open(self._members[name]) as file:
            shape, fortran, dtype = _array_header(file)
        stored = shape[::-1] if fortran else shape
        return Matrix(lambda: self._panels(name), stored, dtype.itemsize, turned=fortran)

    def _panels(self, name: str) -> Iterator[tuple[int, "Tensor"]]:
        import torch

        with zipfile.ZipFile(self._path) as archive, archive.open(self._members[name]) as file:
            shape, fortran, dtype = _array_header(file)
            rows, columns = shape[::-1] if fortran else shape
            step = max(1, PANEL // (columns * dtype.itemsize))
            for start in range(0, rows, step):
                panel = (min(step, rows - start), columns)
                data = file.read(prod(panel) * dtype.itemsize)
                numbers = np.frombuffer(data, dtype).reshape(panel).astype(np.float64)
                yield start, torch.from_numpy(numbers)


def _array_header(file: Any) -> tuple[tuple[int, int], bool, "np.dtype[Any]"]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(file)
    if len(shape) != 2 or dtype.hasobject:
        raise BrokenFile("An array of weights is not a matrix of numbers.")
    return (shape[0], shape[1]), fortran, dtype


def relu(b_enc: "Tensor") -> Activation:
    return lambda product: product.add_(b_enc).relu_()


def jumprelu(b_enc: "Tensor", threshold: "Tensor") -> Activation:
    """Strictly above the threshold, and above zero."""

    def activate(product: "Tensor") -> "Tensor":
        before = product.add_(b_enc)
        above = before > threshold
        return before.relu_().mul_(above)

    return activate


def topk(b_enc: "Tensor", k: int, norms: "Tensor | float" = 1.0) -> Activation:
    """The k largest, then ReLU. `norms` weigh them where the SAE rescales by decoder norm."""

    def activate(product: "Tensor") -> "Tensor":
        before = (product + b_enc) * norms
        kept = before.topk(k, dim=-1)
        return before.new_zeros(before.shape).scatter(-1, kept.indices, kept.values.relu())

    return activate


def abstopk(b_enc: "Tensor", k: int, norms: "Tensor | float" = 1.0) -> Activation:
    """The k farthest from zero, signs kept."""

    def activate(product: "Tensor") -> "Tensor":
        before = (product + b_enc) * norms
        kept = before.abs().topk(k, dim=-1).indices
        return before.new_zeros(before.shape).scatter(-1, kept, before.gather(-1, kept))

    return activate


def gated(b_gate: "Tensor", b_mag: "Tensor", r_mag: "Tensor") -> Activation:
    def activate(product: "Tensor") -> "Tensor":
        return (product * r_mag.exp() + b_mag).relu() * (product + b_gate > 0)

    return activate


@dataclass(frozen=True)
class Plain:
    """normalise, centre, encode, activate; decode, un-normalise, skip. Row vectors.

    `input_factor` and `output_factor` stand for training on scaled activations.
    """

    encoder: Matrix  # [d_in, d_sae]
    decoder: Matrix  # [d_sae, d_out]
    b_dec: "Tensor"
    activation: Activation
    centre: bool = False
    normalisation: str = "none"
    weights: "Tensor | float | None" = None  # acts are multiplied by these before decoding
    skip: Matrix | None = None  # [d_in, d_out]
    residual: float = 0.0  # how much of x itself is added to the output
    centre_of_input: "Tensor | None" = None  # where it is not b_dec
    input_factor: float = 1.0
    output_factor: float = 1.0
    transcodes: bool = field(default=False)  # then nothing is un-normalised

    @property
    def d_in(self) -> int:
        return self.encoder.shape[0]

    @property
    def d_sae(self) -> int:
        return self.encoder.shape[1]

    def encode(self, x: "Tensor", tick: Tick = no_tick) -> "Tensor":
        x = self._normalised(x * self.input_factor)
        if self.centre_of_input is not None:
            x = x - self.centre_of_input
        elif self.centre:
            x = x - self.b_dec
        return self.activation(self.encoder.after(x, tick))

    def decode(self, acts: "Tensor", x: "Tensor", tick: Tick = no_tick) -> "Tensor":
        weighed = acts if self.weights is None else acts * self.weights
        out = self.decoder.after(weighed, tick) + self.b_dec
        if not self.transcodes:
            out = self._as_before(out, x * self.input_factor)
        if self.skip is not None:
            out = out + self.skip.after(x, tick)
        return (out + x * self.residual if self.residual else out) * self.output_factor

    def _normalised(self, x: "Tensor") -> "Tensor":
        if self.normalisation == "constant_norm_rescale":
            return x * _to_constant_norm(x)
        if self.normalisation == "layer_norm":
            mean, spread = _mean_and_spread(x)
            return (x - mean) / (spread + 1e-5)
        return x

    def _as_before(self, out: "Tensor", x: "Tensor") -> "Tensor":
        if self.normalisation == "constant_norm_rescale":
            return out / _to_constant_norm(x)
        if self.normalisation == "layer_norm":
            mean, spread = _mean_and_spread(x)
            return out * spread + mean
        return out


def inverse(norms: "Tensor") -> "Tensor":
    """1 / norms. A decoder row of zeros adds nothing, whatever it is divided by."""
    return 1 / norms.where(norms != 0, norms.new_ones(()))


def _mean_and_spread(x: "Tensor") -> "tuple[Tensor, Tensor]":
    """Of each vector; the spread is the unbiased standard deviation."""
    return x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True)


def _to_constant_norm(x: "Tensor") -> "Tensor":
    """What brings each vector to the length sqrt(d_in)."""
    factor: Tensor = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
    return factor
