"""The forward of each class of dictionary_learning, from its definition, for the certificate.

All but AutoEncoderNew and JumpReluAutoEncoder subtract the decoder's bias from their input.
`norm_factor` in the state of an interrupted run makes biases and thresholds that much larger.
"""

from pathlib import Path
from typing import Any

import numpy as np

from saes import reference as plain
from saes.formats.base import SaeInfo
from saes.formats.files.rereading import reopen
from saes.reference import Activation, Floats, Matrix

UNCENTRED = ("AutoEncoderNew", "JumpReluAutoEncoder")
INPUT_FIRST = ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder")
DECODER_BIAS = {
    "AutoEncoder": "bias",
    "AutoEncoderNew": "decoder.bias",
    "GatedAutoEncoder": "decoder_bias",
}


class _File:
    """Tensors by the names that the class gives them, wherever they are nested."""

    def __init__(self, path: Path) -> None:
        self.file = reopen(path)
        self.nest = "ae." if any(name.startswith("ae.") for name in self.file.names) else ""
        self.factor = self._factor() if self.nest else 1.0

    def _factor(self) -> float:
        if "norm_factor" in self.file.names:
            return self.file.number("norm_factor")
        return float(self.file.objects.get("norm_factor") or 1)

    def matrix(self, name: str) -> Matrix:
        return self.file.matrix(self.nest + name)

    def scaled(self, name: str) -> Floats:
        return self.vector(name) * self.factor

    def vector(self, name: str) -> Floats:
        return self.file.vector(self.nest + name).reshape(-1)

    def threshold(self) -> Floats:
        stored = self.vector("threshold")
        never_estimated = stored.size == 1 and bool(stored[0] < 0)
        return stored if never_estimated else stored * self.factor


def forward(path: Path, dict_class: str, info: SaeInfo) -> plain.Plain:
    file = _File(path)
    encoder, decoder = _matrices(file, dict_class)
    return plain.Plain(
        encoder=encoder,
        decoder=decoder,
        b_dec=file.scaled(DECODER_BIAS.get(dict_class, "b_dec")),
        activation=_activation(file, dict_class, info),
        centre=_centres(dict_class, info),
        normalisation=info.get("normalize_activations"),
    )


def _centres(dict_class: str, info: SaeInfo) -> bool:
    fact: Any = info.facts.get("apply_b_dec_to_input")
    by_user = fact is not None and fact.origin == "user"
    return bool(fact.value) if by_user else dict_class not in UNCENTRED


def _matrices(file: _File, dict_class: str) -> tuple[Matrix, Matrix]:
    if dict_class in INPUT_FIRST:
        return file.matrix("W_enc"), file.matrix("W_dec")
    return file.matrix("encoder.weight").transposed, file.matrix("decoder.weight").transposed


def _activation(file: _File, dict_class: str, info: SaeInfo) -> Activation:
    if dict_class == "GatedAutoEncoder":
        gate, magnitude = file.scaled("gate_bias"), file.scaled("mag_bias")
        return plain.gated(gate, magnitude, file.vector("r_mag"))
    b_enc = file.scaled("b_enc" if dict_class in INPUT_FIRST else "encoder.bias")
    if info.get("architecture") == "topk":
        return plain.topk(b_enc, info.get("k"))
    if dict_class in ("AutoEncoder", "AutoEncoderNew"):
        return plain.relu(b_enc)
    if dict_class == "JumpReluAutoEncoder":
        return plain.jumprelu(b_enc, file.scaled("threshold"))
    return _above(b_enc, file.threshold())


def _above(b_enc: Floats, threshold: Floats) -> Activation:
    """BatchTopK at inference: what is left after ReLU, where it exceeds the one threshold."""

    def activate(product: Floats) -> Floats:
        after = np.maximum(product + b_enc, 0)
        return after * (after > threshold)

    return activate
