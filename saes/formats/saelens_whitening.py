"""Training on whitened activations z = (x - mean) @ M, folded into weights that see x itself."""

import numpy as np

from saes.errors import UnsupportedArchitecture
from saes.formats.architectures import Shape, is_transcoder
from saes.formats.base import Facts, Folder
from saes.formats.files.containers import Container
from saes.tensors import WIDER, Bits, Floats, Held, LazyTensor, to_bits, vector_times

Tensors = dict[str, LazyTensor]


class Product(LazyTensor):
    """left @ right. Blocks of it read whole rows of one and whole columns of the other."""

    def __init__(self, left: LazyTensor, right: LazyTensor, dtype: str) -> None:
        super().__init__((left.shape[0], right.shape[1]), dtype)
        self._left, self._right = left, right

    def block(self, *index: slice) -> Bits:
        every = slice(0, self._left.shape[1])
        left, right = self._left.floats(index[0], every), self._right.floats(every, index[1])
        return to_bits(left @ right, self.dtype)


def whitening_shapes(facts: Facts) -> dict[str, Shape]:
    d_in = facts["d_in"].value
    return {"mean": (d_in,), "matrix": (d_in, d_in), "inverse_matrix": (d_in, d_in)}


def whitened(tensors: Tensors, source: Folder, container: Container, facts: Facts) -> Tensors:
    architecture = facts["architecture"].value
    if is_transcoder(architecture) or "W_enc" not in tensors:
        raise UnsupportedArchitecture(f"Whitening cannot be folded into a {architecture} SAE.")
    mean = container.tensor(source, "mean").all()
    matrix, inverse = (container.tensor(source, it) for it in ("matrix", "inverse_matrix"))
    encoder, decoder = tensors["W_enc"], tensors["W_dec"]
    encoder = Product(matrix, encoder, WIDER[encoder.dtype])
    b_dec = vector_times(tensors["b_dec"].all(), inverse) + mean
    folded = {
        "W_enc": encoder,
        "W_dec": Product(decoder, inverse, WIDER[decoder.dtype]),
        "b_dec": Held(b_dec, WIDER[tensors["b_dec"].dtype]),
    }
    if not facts["apply_b_dec_to_input"].value:
        folded |= _shifted(tensors, vector_times(mean, encoder))
    return {**tensors, **folded}


def _shifted(tensors: Tensors, shift: Floats) -> Tensors:
    """Biases of the encoder without the mean, where b_dec is not subtracted with it."""
    shifts = {"b_enc": shift, "b_gate": shift}
    if "r_mag" in tensors:
        shifts["b_mag"] = shift * np.exp(tensors["r_mag"].all())
    return {
        name: Held(tensors[name].all() - by, WIDER[tensors[name].dtype])
        for name, by in shifts.items()
        if name in tensors
    }
