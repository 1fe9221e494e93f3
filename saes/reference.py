"""Plain forwards of whole SAEs, written from their definitions, for the certificate.

Row vectors, float64. Matrices are streamed by rows; none is ever whole in memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Narrow = NDArray[Any]  # floats of any width
Floats = NDArray[np.float64]
Tick = Callable[[int], None]  # told of each panel's bytes
Activation = Callable[[Floats], Floats]  # of x @ W_enc, which it may overwrite, to save memory

# Tiles of a panel that stay, with what they are multiplied with, in the processor's cache.
PRODUCT = 1 << 18  # multiplications
ROWS = 64


def no_tick(count: int) -> None:
    pass


class Reference(Protocol):
    """One SAE as its family defines it. x is [n, d_in], acts are [n, d_sae]."""

    @property
    def d_in(self) -> int: ...

    @property
    def d_sae(self) -> int: ...

    def encode(self, x: Floats, tick: Tick) -> Floats: ...

    def decode(self, acts: Floats, x: Floats, tick: Tick) -> Floats: ...

    def toward(self, features: NDArray[np.int64]) -> Floats:
        """One input for each of these features, in the direction that it looks for."""


class Rows(Protocol):
    """The rows of a stored matrix, in order, as (first row, panel), as wide as they are stored."""

    def __call__(self) -> Iterator[tuple[int, Narrow]]: ...


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

    def after(self, x: Floats, tick: Tick = no_tick) -> Floats:
        """x @ self."""
        out = np.zeros((x.shape[0], self.shape[1]))
        step = max(1, PRODUCT // (ROWS * len(x)))
        for start, panel in self.rows():
            for rows, columns, wide in _widened(panel, step):
                across = slice(start + rows.start, start + rows.start + len(wide))
                if self.turned:
                    out[:, across] += x[:, columns] @ wide.T
                else:
                    out[:, columns] += x[:, across] @ wide
            tick(panel.size * self.itemsize)
        return out

    def row_norms(self) -> Floats:
        """The length of each row of the matrix, turned or not."""
        if self.turned:
            squares = np.zeros(self.stored[1])
            for _, panel in self.rows():
                for _, columns, wide in _widened(panel, PRODUCT // ROWS):
                    squares[columns] += np.square(wide).sum(axis=0)
            return np.sqrt(squares)
        norms = [np.linalg.norm(panel.astype(np.float64), axis=1) for _, panel in self.rows()]
        return np.concatenate(norms)


def _widened(panel: Narrow, step: int) -> Iterator[tuple[slice, slice, Floats]]:
    """The panel as float64, in tiles that stay in the processor's cache."""
    for top in range(0, panel.shape[0], ROWS):
        for left in range(0, panel.shape[1], step):
            rows, columns = slice(top, top + ROWS), slice(left, left + step)
            yield rows, columns, panel[rows, columns].astype(np.float64)


def relu(b_enc: Floats) -> Activation:
    def activate(product: Floats) -> Floats:
        product += b_enc
        return np.maximum(product, 0, out=product)

    return activate


def jumprelu(b_enc: Floats, threshold: Floats | float) -> Activation:
    """Strictly above the threshold, and above zero."""

    def activate(product: Floats) -> Floats:
        product += b_enc
        product[~((product > threshold) & (product > 0))] = 0
        return product

    return activate


def topk(b_enc: Floats, k: int, norms: Floats | float = 1.0) -> Activation:
    """The k largest, then ReLU. `norms` weigh them where the SAE rescales by decoder norm."""

    def activate(product: Floats) -> Floats:
        before = (product + b_enc) * norms
        return np.maximum(_kept(before, before, k), 0)

    return activate


def abstopk(b_enc: Floats, k: int, norms: Floats | float = 1.0) -> Activation:
    """The k farthest from zero, signs kept."""

    def activate(product: Floats) -> Floats:
        before = (product + b_enc) * norms
        return _kept(before, np.abs(before), k)

    return activate


def _kept(values: Floats, rank: Floats, k: int) -> Floats:
    places = np.argpartition(rank, -k, axis=-1)[..., -k:]
    out = np.zeros_like(values)
    np.put_along_axis(out, places, np.take_along_axis(values, places, axis=-1), axis=-1)
    return out


def gated(b_gate: Floats, b_mag: Floats, r_mag: Floats) -> Activation:
    def activate(product: Floats) -> Floats:
        return np.maximum(product * np.exp(r_mag) + b_mag, 0) * (product + b_gate > 0)

    return activate


@dataclass(frozen=True)
class Plain:
    """normalise, centre, encode, activate; decode, un-normalise, skip.

    `input_factor` and `output_factor` stand for training on scaled activations.
    """

    encoder: Matrix  # [d_in, d_sae]
    decoder: Matrix  # [d_sae, d_out]
    b_dec: Floats
    activation: Activation
    centre: bool = False
    normalisation: str = "none"
    weights: Floats | float | None = None  # acts are multiplied by these before decoding
    skip: Matrix | None = None  # [d_in, d_out]
    residual: float = 0.0  # how much of x itself is added to the output
    centre_of_input: Floats | None = None  # where it is not b_dec
    input_factor: float = 1.0
    output_factor: float = 1.0
    transcodes: bool = False  # then nothing is un-normalised

    @property
    def d_in(self) -> int:
        return self.encoder.shape[0]

    @property
    def d_sae(self) -> int:
        return self.encoder.shape[1]

    def encode(self, x: Floats, tick: Tick = no_tick) -> Floats:
        x = self._normalised(x * self.input_factor)
        if self.centre_of_input is not None:
            x = x - self.centre_of_input
        elif self.centre:
            x = x - self.b_dec
        return self.activation(self.encoder.after(x, tick))

    def decode(self, acts: Floats, x: Floats, tick: Tick = no_tick) -> Floats:
        weighed = acts if self.weights is None else acts * self.weights
        out: Any = self.decoder.after(weighed, tick) + self.b_dec
        if not self.transcodes:
            out = self._as_before(out, x * self.input_factor)
        if self.skip is not None:
            out = out + self.skip.after(x, tick)
        if self.residual:
            out = out + x * self.residual
        found: Floats = out * self.output_factor
        return found

    def toward(self, features: NDArray[np.int64]) -> Floats:
        picked = np.zeros((len(features), self.d_sae))
        picked[np.arange(len(features)), features] = 1
        directions = self.encoder.transposed.after(picked)
        lengths = np.linalg.norm(directions, axis=-1, keepdims=True)
        x: Floats = directions * inverse(lengths) * self.d_in**0.5
        return x + self.b_dec if self.centre else x

    def _normalised(self, x: Floats) -> Floats:
        if self.normalisation == "constant_norm_rescale":
            return x * _to_constant_norm(x)
        if self.normalisation == "layer_norm":
            mean, spread = _mean_and_spread(x)
            return (x - mean) / (spread + 1e-5)
        return x

    def _as_before(self, out: Floats, x: Floats) -> Floats:
        if self.normalisation == "constant_norm_rescale":
            return out / _to_constant_norm(x)
        if self.normalisation == "layer_norm":
            mean, spread = _mean_and_spread(x)
            return out * spread + mean
        return out


def inverse(norms: Floats) -> Floats:
    """1 / norms. A decoder row of zeros adds nothing, whatever it is divided by."""
    return 1 / np.where(norms != 0, norms, 1)


def _mean_and_spread(x: Floats) -> tuple[Floats, Floats]:
    """Of each vector; the spread is the unbiased standard deviation."""
    return x.mean(axis=-1, keepdims=True), x.std(axis=-1, ddof=1, keepdims=True)


def _to_constant_norm(x: Floats) -> Floats:
    """What brings each vector to the length sqrt(d_in)."""
    factor: Floats = x.shape[-1] ** 0.5 / np.linalg.norm(x, axis=-1, keepdims=True)
    return factor
