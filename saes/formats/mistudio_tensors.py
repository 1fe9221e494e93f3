"""Tensors of the older miStudio made standard: turned, biases added, centring folded.

The decoder's bias was split in two in generation 1. A transcoder centres by a vector of its own,
and a skip autoencoder adds its input: both have a standard form only as transcoders.
"""

import numpy as np

from saes.errors import UnsupportedArchitecture
from saes.formats.base import Folder, Sae, SaeInfo
from saes.formats.mistudio_legacy import Checkpoint
from saes.tensors import WIDER, Diagonal, Held, LazyTensor, vector_times


def load(source: Folder, file: str, info: SaeInfo) -> Sae:
    checkpoint = Checkpoint(source, file, info.get("architecture"))
    if checkpoint.name == "JumpReLUSAE":
        return Sae(info, _jumprelu(source, checkpoint))
    tensors = _linear(source, checkpoint)
    if checkpoint.name == "Transcoder" and checkpoint.has("b_enc_center"):
        tensors["b_enc"] = _centred(tensors, checkpoint.tensor(source, "b_enc_center"))
    if checkpoint.name == "SkipAutoencoder":
        tensors = skipping(tensors, info)
    return Sae(info, tensors)


def _linear(source: Folder, checkpoint: Checkpoint) -> dict[str, LazyTensor]:
    encoder = checkpoint.tensor(source, "encoder.weight")
    decoder = (
        checkpoint.tensor(source, "decoder.weight").transposed()
        if checkpoint.has("decoder.weight")
        else encoder
    )
    biases = [
        checkpoint.tensor(source, name)
        for name in ("decoder_bias", "b_pre", "decoder.bias")
        if checkpoint.has(name)
    ]
    return {
        "W_enc": encoder.transposed(),
        "b_enc": checkpoint.tensor(source, "encoder.bias"),
        "W_dec": decoder,
        "b_dec": biases[0] if len(biases) == 1 else biases[0].plus(biases[1]),
    }


def _jumprelu(source: Folder, checkpoint: Checkpoint) -> dict[str, LazyTensor]:
    encoder = checkpoint.tensor(source, "W_enc")
    logarithm = checkpoint.tensor(source, "activation.log_threshold")
    return {
        "W_enc": encoder.transposed(),
        "b_enc": checkpoint.tensor(source, "b_enc"),
        "W_dec": checkpoint.tensor(source, "W_dec").transposed()
        if checkpoint.has("W_dec")
        else encoder,
        "b_dec": checkpoint.tensor(source, "b_dec"),
        "threshold": logarithm.mapped(lambda values, index: np.exp(values)),
    }


def _centred(tensors: dict[str, LazyTensor], centre: LazyTensor) -> LazyTensor:
    """(x - centre) @ W + b = x @ W + (b - centre @ W): a transcoder has no other place for it."""
    b_enc, encoder = tensors["b_enc"], tensors["W_enc"]
    return Held(b_enc.all() - vector_times(centre.all(), encoder), WIDER[b_enc.dtype])


def skipping(tensors: dict[str, LazyTensor], info: SaeInfo) -> dict[str, LazyTensor]:
    """skip_scale was never stored; every training there ever was used 1."""
    if info.get("normalize_activations") != "none":
        raise UnsupportedArchitecture(
            "A skip autoencoder on normalised activations has no standard form."
        )
    if info.get("generation") == 2:
        tensors = {**tensors, "b_enc": _centred(tensors, tensors["b_dec"])}
    encoder = tensors["W_enc"]
    return {**tensors, "W_skip": Diagonal(1.0, encoder.shape[0], encoder.dtype)}
