"""One SAE through the real sae-lens, and through ours."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import SAE

from saes.formats import FolderSource, identify
from saes.reference import no_tick
from tests.fixtures import Array, Sample

HEADS = 4


def inputs(d_in: int = 16, rows: int = 64) -> Array:
    x = np.random.default_rng(11).standard_normal((rows, d_in))
    x[rows // 2 :] *= 3
    return x


def theirs(folder: Path, dtype: str | None = "float64") -> Any:
    """In float64, which changes no stored number, so that only the arithmetic is compared."""
    return SAE.load_from_disk(folder, dtype=dtype)


def through_theirs(sae: Any, x: Array) -> tuple[Array, Array]:
    given = torch.from_numpy(x).to(sae.dtype)
    if sae.cfg.reshape_activations == "hook_z":
        given = given.reshape(len(x), HEADS, -1)
    with torch.no_grad():
        acts, recon = sae.encode(given), sae(given)
    return acts.double().numpy(), recon.reshape(len(x), -1).double().numpy()


def through_ours(folder: Path, x: Array, where: str = ".", **given: Any) -> tuple[Array, Array]:
    """The forward of the source's own family."""
    source = FolderSource(folder, given.pop("repo_id", None))
    family, info = identify(source, where, given)
    reference = family.reference(source, info.where, given)
    acts = reference.encode(x, no_tick)
    return acts, reference.decode(acts, x, no_tick)


def weights(sae: Any) -> dict[str, Array]:
    return {name: it.double().numpy() for name, it in sae.state_dict().items()}


def truth(sample: Sample) -> tuple[Array, Array]:
    """What is to come out for the sample's own inputs, as the files have it."""
    recon = sample.of_unit("recon")
    if sample.name == "mistudio_v1_community_format":  # the exporter lost decoder.bias
        recon = sample.truth["alt.saelens.recon"]
    return sample.of_unit("acts").ravel(), recon.ravel()


def assert_near(found: tuple[Array, Array], wanted: tuple[Array, Array]) -> None:
    for one, other, what in zip(found, wanted, ("activations", "reconstruction"), strict=True):
        assert one.shape == other.shape, what
        assert np.abs(one - other).max() <= 1e-5 * max(1.0, np.abs(other).max()), what
