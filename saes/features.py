"""The features of an SAE, one by one: numbers read from its files by slices."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any
from urllib.parse import quote

import numpy as np

from saes import bundles, converter, services
from saes.errors import DataMissing, NotReady, UnsupportedArchitecture
from saes.models import Sae
from saes.sparsity import sparsity_of
from saes.tensors import Floats, LazyTensor

AT_ONCE = 1 << 20  # numbers of the decoder that are in memory at a time
NEURONPEDIA = "https://www.neuronpedia.org"


class Features:
    """Of one ready SAE. Raises NotReady, UnsupportedArchitecture, DataMissing, BrokenFile."""

    def __init__(self, sae: Sae) -> None:
        self.sae = sae
        with _reading(sae):
            self._tensors = _tensors(sae)
        self.count = self._tensors["W_dec"].shape[0]

    def page(self, indices: range) -> list[dict[str, Any]]:
        """What is known of each; `indices` are neighbours."""
        if not indices:
            return []
        part = slice(indices.start, indices.stop)
        told = sparsity_of(self.sae, self.count)
        with _reading(self.sae):
            columns = {
                "decoder_norm": _norms(self._tensors["W_dec"], part),
                "encoder_bias": _slice(self._tensors.get("b_enc"), part),
                "threshold": _slice(self._tensors.get("threshold"), part),
                "log_sparsity": _slice(told.values if told else None, part),
            }
        return [
            {
                "feature_idx": index,
                "layer": self.sae.layer,
                "label": None,
                **{name: _at(column, place) for name, column in columns.items()},
                "neuronpedia_url": _neuronpedia(self.sae, index),
            }
            for place, index in enumerate(indices)
        ]


@contextmanager
def _reading(sae: Sae) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # a map that is longer than its file is a ValueError
        raise DataMissing(f"The files of {sae.name} cannot be read.") from error


def _tensors(sae: Sae) -> Mapping[str, LazyTensor]:
    if sae.kept_because:
        raise UnsupportedArchitecture(f"Its features cannot be listed: {sae.kept_because}.")
    if sae.status != Sae.Status.READY:
        raise NotReady(f"{sae.name} is not ready.")
    if not bundles.is_on_disk(bundles.asked_for(sae, services.NATIVE)):
        raise DataMissing(f"Files of {sae.name} are missing.")
    return converter.load(services.library().native(sae.id)).tensors


def _norms(decoder: LazyTensor, part: slice) -> Floats:
    """The length of each feature's direction. On disk they lie across: a bit of each line."""
    total = np.zeros(part.stop - part.start)
    step = max(1, AT_ONCE // len(total))
    for start in range(0, decoder.shape[1], step):
        values = decoder.floats(part, slice(start, min(start + step, decoder.shape[1])))
        total += np.einsum("ij,ij->i", values, values)
    return np.sqrt(total)


def _slice(vector: LazyTensor | None, part: slice) -> Floats | None:
    return None if vector is None else vector.floats(part)


def _at(column: Floats | None, place: int) -> float | None:
    """JSON has no word for what is no number."""
    value = None if column is None else float(column[place])
    return value if value is not None and isfinite(value) else None


def _neuronpedia(sae: Sae, index: int) -> str | None:
    told = sae.facts.get("neuronpedia_id", {}).get("value")
    return f"{NEURONPEDIA}/{quote(told, safe='/')}/{index}" if told else None
