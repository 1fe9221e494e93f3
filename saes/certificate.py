"""The certificate: source and conversion give the same features and the same reconstruction.

Random directions of several lengths and both signs go through both encoders. Kept are those for
which between 1 % and 50 % of the features fire, as they do on a model's own activations. What goes
through both decoders wakes every feature, also those that no direction woke; so the four matrices
are read side by side, each as soon as its bytes are there.
"""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from saes.errors import NothingFires
from saes.formats.base import Sae
from saes.progress import STEP, Stopped
from saes.reference import Floats, Reference, Tick
from saes.tensors import LazyTensor

Flags = NDArray[np.bool_]
Half = Callable[[Tick], Floats]

SEED = 20240817
TOLERANCE = 1e-6
SCALES = tuple(10 ** (step / 2) for step in range(-3, 6))  # lengths in units of sqrt(d_in)
MAX_ACTS = 8 << 20  # bytes of one batch of activations
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
    method: str = "activations"  # or "bits", where no single activation gives the features
    source_files: Mapping[str, str] = field(default_factory=dict)  # name -> sha256
    target_files: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(source: Reference, target: Reference, tick: Tick, seed: int = SEED) -> Certificate:
    """Raises NothingFires where no direction wakes any feature: then nothing can be said."""
    x = candidates(source.d_in, source.d_sae, seed)
    made = activations(len(x), source.d_sae, seed)
    acts, other, *recons = _side_by_side(
        tick,
        partial(source.encode, x), partial(target.encode, x),
        partial(source.decode, made, x), partial(target.decode, made, x),
    )  # fmt: skip
    if not acts.any():  # normalised inputs cannot be made longer: go where features look
        x = source.toward(np.random.default_rng(seed).permutation(source.d_sae)[: len(x)])
        acts, other = _side_by_side(tick, partial(source.encode, x), partial(target.encode, x))
    kept = _typical(acts)
    x, acts, other = x[kept], acts[kept], other[kept]
    same = _same_features(acts, other)
    if not same.all():
        # A folded weight is rounded: a feature within rounding of its threshold says nothing.
        steady = _steady(source, x, acts, seed, tick)
        if steady.any():
            acts, other, same = acts[steady], other[steady], same[steady]
    return _judged(seed, (acts, other), (recons[0], recons[1]), bool(same.all()))


def _side_by_side(tick: Tick, *halves: Half) -> list[Floats]:
    """A thread each: faster than each product spread over all of them."""
    over, counts = Event(), deque[int]()

    def count(read: int) -> None:
        if over.is_set():
            raise Stopped
        counts.append(read)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(len(halves)) as pool:
        at_work = [pool.submit(half, count) for half in halves]
        todo = set(at_work)
        try:
            while todo:
                done, todo = futures.wait(todo, STEP, futures.FIRST_EXCEPTION)
                for it in done:
                    it.result()
                tick(sum(counts.popleft() for _ in range(len(counts))))
            return [it.result() for it in at_work]
        finally:
            over.set()


def same_bits(source: Sae, target: Sae, tick: Tick) -> Certificate:
    """Both hold the same tensors, bit for bit."""
    names = source.tensors.keys()
    same = names == target.tensors.keys() and all(
        _equal(source.tensors[name], target.tensors[name], tick) for name in names
    )
    apart = 0.0 if same else WORST
    return Certificate(same, SEED, 0, 0, 0, apart, apart, apart, apart, same, method="bits")


def _equal(one: LazyTensor, other: LazyTensor, tick: Tick) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    rest = [slice(0, length) for length in one.shape[1:]]
    for rows in one.panels():
        bits = one.block(rows, *rest)
        if not np.array_equal(bits, other.block(rows, *rest)):
            return False
        tick(2 * bits.nbytes)
    return True


def candidates(d_in: int, d_sae: int, seed: int) -> Floats:
    count = max(8, min(4 * len(SCALES), MAX_ACTS // (8 * d_sae)))
    x: Floats = np.random.default_rng(seed).standard_normal((count, d_in))
    x[1::2] = -x[: len(x[1::2]) * 2 : 2]
    scales = [SCALES[(row // 2) * len(SCALES) * 2 // count] for row in range(count)]
    x *= np.array(scales)[:, None]
    return x


def activations(count: int, d_sae: int, seed: int) -> Floats:
    """For the decoders, [count, d_sae]: a quarter of the features in each, and each in some."""
    random = np.random.default_rng(seed)
    quarter = random.permutation(d_sae) % 4
    acts: Floats = np.abs(random.standard_normal((count, d_sae)))
    acts[(np.arange(count)[:, None] + quarter) % 4 != 0] = 0
    return acts


def _typical(acts: Floats) -> Flags:
    fired = (acts != 0).mean(axis=-1)
    if not (fired > 0).any():
        raise NothingFires(f"None of {len(acts)} random directions makes any feature fire.")
    typical: Flags = (fired >= FEWEST) & (fired <= MOST)
    return typical if typical.any() else fired > 0


def _same_features(acts: Floats, other: Floats) -> Flags:
    same: Flags = ((acts != 0) == (other != 0)).all(axis=-1)
    return same


def _steady(source: Reference, x: Floats, acts: Floats, seed: int, tick: Tick) -> Flags:
    """Directions whose features stay the same when they are moved by a hundred-thousandth."""
    random = np.random.default_rng(seed + 1)
    length: Floats = np.linalg.norm(x, axis=-1, keepdims=True) / x.shape[1] ** 0.5
    moved = x + NUDGE * length * random.standard_normal(x.shape)
    return _same_features(acts, source.encode(moved, tick))


def _judged(
    seed: int, acts: tuple[Floats, Floats], recon: tuple[Floats, Floats], same: bool
) -> Certificate:
    fired = acts[0] != 0
    (abs_acts, rel_acts), (abs_recon, rel_recon) = _differences(*acts), _differences(*recon)
    return Certificate(
        passed=same and rel_acts <= TOLERANCE and rel_recon <= TOLERANCE,
        seed=seed,
        n_vectors=len(fired),
        fired_fraction=float(fired.mean()),
        mean_l0=float(fired.sum(axis=-1).mean()),
        max_abs_acts=abs_acts,
        max_rel_acts=rel_acts,
        max_abs_recon=abs_recon,
        max_rel_recon=rel_recon,
        active_sets_identical=same,
    )


def _differences(one: Floats, other: Floats) -> tuple[float, float]:
    """The largest difference, and the largest one relative to its vector's own largest number."""
    if one.shape != other.shape:
        return WORST, WORST
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        apart = np.abs(one - other).max(axis=-1)
        relative = np.where(apart == 0, 0, apart / np.abs(one).max(axis=-1))  # NaN stays NaN
    return _finite(apart.max()), _finite(relative.max())


def _finite(value: Any) -> float:
    return float(np.nan_to_num(value, nan=WORST, posinf=WORST))
