"""The certificate: source and conversion give the same features and the same reconstruction.

Random directions of several lengths and both signs go through both. Kept are those for which
between 1 % and 50 % of the features fire, as they do on a model's own activations.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from saes.errors import NothingFires
from saes.reference import Reference, Tick

if TYPE_CHECKING:
    from torch import Tensor

SEED = 20240817
TOLERANCE = 1e-6
SCALES = tuple(10 ** (step / 2) for step in range(-3, 6))  # lengths in units of sqrt(d_in)
MAX_ACTS = 16 << 20  # bytes of one batch of activations
FEWEST, MOST = 0.01, 0.5
NUDGE = 1e-5
WORST = 1e300  # for NaN and infinity, which JSON has no words for


@dataclass(frozen=True)
class Certificate:
    passed: bool
    seed: int
    n_vectors: int
    fired_fraction: float
    mean_l0: float
    max_abs_acts: float
    max_rel_acts: float
    max_abs_recon: float
    max_rel_recon: float
    active_sets_identical: bool
    tolerance: float = TOLERANCE
    source_files: Mapping[str, str] = field(default_factory=dict)  # name -> sha256
    target_files: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(source: Reference, target: Reference, tick: Tick, seed: int = SEED) -> Certificate:
    """Raises NothingFires where no direction wakes any feature: then nothing can be said."""
    x = candidates(source.d_in, source.d_sae, seed)
    x, acts = _chosen(x, source.encode(x, tick))
    other = target.encode(x, tick)
    same = _same_features(acts, other)
    if not same.all():
        # A folded weight is rounded: a feature within rounding of its threshold says nothing.
        steady = _steady(source, x, acts, seed, tick)
        if bool(steady.any()):
            x, acts, other, same = x[steady], acts[steady], other[steady], same[steady]
    recon, other_recon = source.decode(acts, x, tick), target.decode(other, x, tick)
    return _judged(seed, (acts, other), (recon, other_recon), bool(same.all()))


def candidates(d_in: int, d_sae: int, seed: int) -> "Tensor":
    import torch

    random = torch.Generator().manual_seed(seed)
    count = max(8, min(4 * len(SCALES), MAX_ACTS // (8 * d_sae)))
    x = torch.randn(count, d_in, generator=random, dtype=torch.float64)
    x[1::2] = -x[: len(x[1::2]) * 2 : 2]
    scales = torch.tensor([SCALES[(row // 2) * len(SCALES) * 2 // count] for row in range(count)])
    return x * scales.double()[:, None]


def _chosen(x: "Tensor", acts: "Tensor") -> "tuple[Tensor, Tensor]":
    fired = (acts != 0).double().mean(dim=-1)
    if not bool((fired > 0).any()):
        raise NothingFires(f"None of {len(x)} random directions makes any feature fire.")
    typical = (fired >= FEWEST) & (fired <= MOST)
    kept = typical if bool(typical.any()) else fired > 0
    return x[kept], acts[kept]


def _same_features(acts: "Tensor", other: "Tensor") -> "Tensor":
    return ((acts != 0) == (other != 0)).all(dim=-1)


def _steady(source: Reference, x: "Tensor", acts: "Tensor", seed: int, tick: Tick) -> "Tensor":
    """Directions whose features stay the same when they are moved by a hundred-thousandth."""
    import torch

    random = torch.Generator().manual_seed(seed + 1)
    length = x.norm(dim=-1, keepdim=True) / x.shape[1] ** 0.5
    moved = x + NUDGE * length * torch.randn(x.shape, generator=random, dtype=torch.float64)
    return _same_features(acts, source.encode(moved, tick))


def _judged(
    seed: int, acts: "tuple[Tensor, Tensor]", recon: "tuple[Tensor, Tensor]", same: bool
) -> Certificate:
    fired = (acts[0] != 0).double()
    (abs_acts, rel_acts), (abs_recon, rel_recon) = _differences(*acts), _differences(*recon)
    return Certificate(
        passed=same and rel_acts <= TOLERANCE and rel_recon <= TOLERANCE,
        seed=seed,
        n_vectors=len(fired),
        fired_fraction=float(fired.mean()),
        mean_l0=float(fired.sum(dim=-1).mean()),
        max_abs_acts=abs_acts,
        max_rel_acts=rel_acts,
        max_abs_recon=abs_recon,
        max_rel_recon=rel_recon,
        active_sets_identical=same,
    )


def _differences(one: "Tensor", other: "Tensor") -> tuple[float, float]:
    """The largest difference, and the largest one relative to its vector's own largest number."""
    import torch

    if one.shape != other.shape:
        return WORST, WORST
    apart = (one - other).abs().amax(dim=-1)
    size = one.abs().amax(dim=-1)
    relative = torch.where(apart == 0, torch.zeros_like(apart), apart / size)  # NaN stays NaN
    return float(apart.max().nan_to_num(WORST, WORST)), float(
        relative.max().nan_to_num(WORST, WORST)
    )
