"""Inspect, convert and certify one SAE of a local folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from saes.certificate import Certificate, compare, same_bits
from saes.errors import BrokenFile, CannotRepresent, CertificateFailed, Conflict, SaeError
from saes.formats import FolderSource, by_slug, identify, mistudio_training, only_sae
from saes.formats.architectures import NOT_PLAIN
from saes.formats.base import Given, Sae, SaeInfo, Source, WritableFormat, from_run
from saes.formats.given import cleaned, dtype_code, refuse_missing
from saes.known_models import check_dimensions, infer_model_from_dimensions
from saes.progress import Reporter, Silent, Stage, Stopped
from saes.storage import sha256_of
from saes.tensors import BITS, LazyTensor

__all__ = [
    "Conversion",
    "certify",
    "check_dimensions",
    "convert",
    "detect_format",
    "infer_model_from_dimensions",
    "inspect",
    "load",
    "mistudio_to_saelens",
    "saelens_to_mistudio",
    "writer",
]


Files = FolderSource | Path | str  # a folder, or one of the SAE's files


@dataclass(frozen=True)
class Conversion:
    paths: list[Path]
    info: SaeInfo  # of the source
    certificate: Certificate | None


def inspect(
    source: Source | Path | str,
    where: str | None = None,
    repo_id: str | None = None,
    given: Given | None = None,
) -> SaeInfo:
    """What config and headers tell, of a folder or file. Without `where`: the only SAE there is.

    Raises SeveralSaes, UnknownFormat, BrokenFile; what the files do not say is in `missing`.
    """
    opened, place = _opened(source, where, repo_id)
    return identify(opened, place, given)[1]


def detect_format(path: Path | str) -> str:
    """The slug of the format of the only SAE at `path`, by what the files hold."""
    return inspect(path).format


def convert(
    source: Files,
    target: Path | str,
    to: str = "saelens",
    where: str | None = None,
    repo_id: str | None = None,
    facts: Given | None = None,
    certify: bool = True,
    progress: Reporter | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Conversion:
    """Write the SAE into the folder `target` and compare it with the source.

    `facts` are what the user knows and the files do not say. Where anything fails, what was written
    is removed. Raises NeedsFacts, CannotRepresent, CertificateFailed and what inspect() raises.
    """
    progress, family, target = progress or Silent(), writer(to), Path(target)
    sae = load(source, where, repo_id, facts, provenance, to)
    progress.say(
        Stage.CONVERTING, f"Converting from {by_slug(sae.info.format).label} to {family.label}"
    )
    with _all_or_nothing(target), ThreadPoolExecutor(1) as hashing:
        before = hashing.submit(_hashes, _root(source), sae.info.files) if certify else None
        paths = family.save(sae, target, progress)
        if before is None:
            return Conversion(paths, sae.info, None)
        after = hashing.submit(_hashes, target, [path.name for path in paths])
        certificate = _certified(source, sae.info, target, repo_id, facts, progress)
    certificate = replace(certificate, source_files=before.result(), target_files=after.result())
    return Conversion(paths, sae.info, certificate)


def certify(
    source: Files,
    where: str | None,
    target: Path | str,
    repo_id: str | None = None,
    facts: Given | None = None,
    progress: Reporter | None = None,
) -> Certificate:
    """Compare a written checkpoint with its source. A failure is returned, not raised."""
    progress = progress or Silent()
    original, where = _opened(source, where, repo_id)
    copy, place = _opened(target, None, None)
    sides = [(original, *identify(original, where, facts)), (copy, *identify(copy, place))]
    for _, _, info in sides:
        refuse_missing(info)
    progress.say(Stage.VERIFYING, "Comparing the conversion with its source")
    total = sum(_weights(info) for _, _, info in sides)
    tick = _Ticker(progress, total)
    if sides[0][2].get("architecture") in NOT_PLAIN:
        return same_bits(load(source, where, repo_id, facts), load(target), tick)
    try:
        one, other = (
            family.reference(source, info.where, given)
            for (source, family, info), given in zip(sides, (facts or {}, {}), strict=True)
        )
        certificate = compare(one, other, tick)
    except BadZipFile as error:
        raise BrokenFile("A weight file does not match its own checksum.") from error
    progress.advance(total, total)
    return certificate


def load(
    source: Files,
    where: str | None = None,
    repo_id: str | None = None,
    facts: Given | None = None,
    provenance: Mapping[str, Any] | None = None,
    to: str | None = None,
) -> Sae:
    """The neutral form, lazily. Raises CannotRepresent where the format `to` cannot hold it."""
    folder, where = _opened(source, where, repo_id)
    family, info = identify(folder, where, facts)
    if to is not None:
        refuse_misfit(info, writer(to))
    sae = family.load(folder, info.where, facts or {})
    origin = {
        "format": info.format,
        "where": info.where,
        "repo_id": repo_id,
        "files": list(info.files),
    }
    told = {**origin, **(provenance or {})}
    facts_told = from_run(sae.info.facts, told.get("training", {}))
    sae = replace(sae, info=replace(sae.info, facts=facts_told), provenance=told)
    dtype = cleaned(facts).get("dtype")
    return _as_dtype(sae, dtype_code(dtype)) if dtype else sae


def writer(slug: str) -> WritableFormat:
    family = by_slug(slug)
    if isinstance(family, WritableFormat):
        return family
    raise CannotRepresent(f"{family.label} is only read, never written.")


def refuse_misfit(info: SaeInfo, family: WritableFormat) -> None:
    """Raises CannotRepresent where the architecture has no place in this format."""
    refuse_missing(info)
    architecture = info.get("architecture")
    if architecture not in family.architectures:
        reason = f": {NOT_PLAIN[architecture]}" if architecture in NOT_PLAIN else ""
        raise CannotRepresent(f"{family.label} has no place for a {architecture} SAE{reason}.")


def saelens_to_mistudio(
    source_dir: Path | str, target_dir: Path | str
) -> tuple[Path, dict[str, Any]]:
    """The guide's call. Returns the checkpoint's path and the content of its metadata.json."""
    done = convert(source_dir, target_dir, to="mistudio")
    checkpoint, metadata = done.paths
    return checkpoint, json.loads(metadata.read_text("utf-8"))


def mistudio_to_saelens(
    source_path: Path | str,
    target_dir: Path | str,
    model_name: str,
    layer: int,
    hyperparams: Mapping[str, Any] | None = None,
) -> Path:
    """The guide's call. `hyperparams`: the training record, in miStudio's words or as facts.

    What in it is no fact is kept beside the SAE. Raises what convert() raises, and
    DimensionMismatch where the record belongs to another checkpoint.
    """
    told = dict(hyperparams or {})
    facts = mistudio_training.facts_from(told, inspect(source_path))
    rest = {name: it for name, it in told.items() if name not in facts}
    convert(
        source_path, target_dir, to="saelens",
        facts={**facts, "model_name": model_name, "layer": layer},
        provenance={"hyperparams": rest} if rest else None,
    )  # fmt: skip
    return Path(target_dir)


def _opened(source: Source | Path | str, where: str | None, repo_id: str | None) -> tuple[Any, str]:
    """A Source and the one SAE in it. A file stands for the SAE that it belongs to."""
    if isinstance(source, Path | str):
        if Path(source).is_file():
            where = where or Path(source).name
        source = FolderSource(_root(source), repo_id)
    return source, only_sae(source.tree, where)


@contextmanager
def _all_or_nothing(target: Path) -> Iterator[None]:
    target.mkdir(parents=True, exist_ok=True)
    before = set(target.iterdir())
    try:
        yield
    except (SaeError, OSError, Stopped, KeyboardInterrupt) as error:
        for path in set(target.iterdir()) - before:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise Conflict(
                f"`{Path(error.filename).name}` is in the target folder already.",
                solution="Choose an empty folder.",
            ) from error
        raise


def _certified(
    source: Files,
    info: SaeInfo,
    target: Path,
    repo_id: str | None,
    facts: Given | None,
    progress: Reporter,
) -> Certificate:
    certificate = certify(source, info.where, target, repo_id, facts, progress)
    if certificate.passed:
        return certificate
    damaged = _not_finite(load(source, info.where, repo_id, facts))
    if damaged:
        raise BrokenFile(f"{', '.join(damaged)} of `{info.where}` holds NaN or infinity.")
    raise CertificateFailed(
        "The conversion does not give what its source gives: activations differ by "
        f"{certificate.max_rel_acts:.1e}, reconstructions by {certificate.max_rel_recon:.1e}."
    )


def _not_finite(sae: Sae) -> list[str]:
    """Tensors whose numbers are none, which no comparison can forgive."""
    return [name for name, tensor in sae.tensors.items() if not _is_finite(tensor)]


def _is_finite(tensor: LazyTensor) -> bool:
    rest = [slice(0, length) for length in tensor.shape[1:]]
    return all(np.isfinite(tensor.floats(rows, *rest)).all() for rows in tensor.panels())


def _root(source: Files) -> Path:
    if isinstance(source, FolderSource):
        return source.root
    path = Path(source)
    return path.parent if path.is_file() else path


def _hashes(folder: Path, names: Sequence[str]) -> dict[str, str]:
    return {name: sha256_of(folder / name) for name in names}


class _Ticker:
    """Bytes of weights read so far, encoding and decoding, source and copy."""

    def __init__(self, progress: Reporter, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._progress.advance(min(self._done, self._total), self._total)


def _weights(info: SaeInfo) -> int:
    total = 0
    for spec in info.tensors:
        if len(spec.shape) == 2 and spec.dtype in BITS:
            total += spec.shape[0] * spec.shape[1] * BITS[spec.dtype].itemsize
    return total


def _as_dtype(sae: Sae, code: str) -> Sae:
    """Only to a wider type: narrowing loses what no certificate would forgive."""
    narrower = {"F64": ("F32", "F16", "BF16"), "F32": ("F16", "BF16")}.get(code, ())
    wrong = [name for name, it in sae.tensors.items() if it.dtype not in (code, *narrower)]
    if wrong:
        raise CannotRepresent(f"{wrong[0]} would lose digits as {code}.")
    return replace(sae, tensors={name: it.cast(code) for name, it in sae.tensors.items()})
