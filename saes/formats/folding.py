"""Factors that training saw and the files leave out, folded into the weights.

A factor is rounded to float32 first, as SAELens rounds it: the weights come out with the same bits.
"""

import numpy as np

from saes.tensors import LazyTensor


def times(tensor: LazyTensor, factor: float) -> LazyTensor:
    rounded = float(np.float32(factor))
    return tensor if rounded == 1 else tensor.scaled(rounded)


def divided(tensor: LazyTensor, factor: float) -> LazyTensor:
    rounded = float(np.float32(factor))
    return tensor if rounded == 1 else tensor.mapped(lambda values, index: values / rounded)
