"""Inspect, convert and certify one SAE of a local folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from saes.certificate import Certificate, compare
from saes.errors import (
    BrokenFile,
    CannotRepresent,
    CertificateFailed,
    SaeError,
    SeveralSaes,
    UnknownFormat,
)
from saes.formats import FORMATS, FolderSource, by_slug, find_saes, identify
from saes.formats.base import ROOT, Given, Sae, SaeInfo, Source, Tree, WritableFormat
from saes.formats.given import cleaned, dtype_code, refuse_missing
from saes.known_models import check_dimensions, infer_model_from_dimensions
from saes.progress import Reporter, Silent, Stage, Stopped
from saes.tensors import BITS

__all__ = [
    "Conversion",
    "certify",
    "check_dimensions",
    "convert",
    "infer_model_from_dimensions",
    "inspect",
    "writer",
]


@dataclass(frozen=True)
class Conversion:
    paths: list[Path]
    info: SaeInfo
    certificate: Certificate | None


def inspect(
    source: Source | Path,
    where: str | None = None,
    repo_id: str | None = None,
    given: Given | None = None,
) -> SaeInfo:
    """What config and headers tell. Without `where`: the only SAE there is."""
    if isinstance(source, Path):
        source = FolderSource(source, repo_id)
    return identify(source, only_sae(source.tree, where), given)[1]


def convert(
    source: Path,
    target: Path,
    to: str = "mistudio",
    where: str | None = None,
    repo_id: str | None = None,
    facts: Given | None = None,
    certify: bool = True,
    progress: Reporter | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Conversion:
    """Write the SAE into the folder `target` and compare it with the source.

    Where that fails, what was written is removed.
    """
    progress, family = progress or Silent(), writer(to)
    sae = load(source, where, repo_id, facts, provenance)
    target.mkdir(parents=True, exist_ok=True)
    progress.say(
        Stage.CONVERTING, f"Converting from {by_slug(sae.info.format).label} to {family.label}"
    )
    before = set(target.iterdir())
    try:
        paths = family.save(sae, target, progress)
        certificate = (
            _certified(source, sae.info, target, repo_id, facts, progress) if certify else None
        )
    except (SaeError, OSError, Stopped):
        for path in set(target.iterdir()) - before:
            path.unlink(missing_ok=True)
        raise
    return Conversion(paths, sae.info, certificate)


def certify(
    source: Path,
    where: str | None,
    target: Path,
    repo_id: str | None = None,
    facts: Given | None = None,
    progress: Reporter | None = None,
) -> Certificate:
    """Compare a written checkpoint with its source. A failure is returned, not raised."""
    progress = progress or Silent()
    info = inspect(source, where, repo_id, facts)
    written = inspect(target)
    refuse_missing(info)
    refuse_missing(written)
    original = by_slug(info.format).reference(source, info.where, facts or {})
    copy = by_slug(written.format).reference(target, written.where, {})
    progress.say(Stage.VERIFYING, "Comparing the conversion with its source")
    total = _weights(info) + _weights(written)
    try:
        return compare(original, copy, _Ticker(progress, total))
    except BadZipFile as error:
        raise BrokenFile("A weight file does not match its own checksum.") from error


def load(
    source: Path,
    where: str | None = None,
    repo_id: str | None = None,
    facts: Given | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Sae:
    """The neutral form, lazily."""
    folder = FolderSource(source, repo_id)
    family, info = identify(folder, only_sae(folder.tree, where), facts)
    sae = family.load(folder, info.where, facts or {})
    origin = {
        "format": info.format,
        "where": info.where,
        "repo_id": repo_id,
        "files": list(info.files),
    }
    sae = replace(sae, provenance={**origin, **(provenance or {})})
    dtype = cleaned(facts).get("dtype")
    return _as_dtype(sae, dtype_code(dtype)) if dtype else sae


def writer(slug: str) -> WritableFormat:
    family = by_slug(slug)
    if isinstance(family, WritableFormat):
        return family
    raise CannotRepresent(f"{family.label} cannot be written yet.")


def only_sae(tree: Tree, where: str | None) -> str:
    if where is not None:
        return where.strip("/") or ROOT
    found = [it.where for it in find_saes(tree)]
    if len(found) > 1:
        raise SeveralSaes(f"There are {len(found)} SAEs here.", found)
    if not found:
        refusals = {family.label: f"It looks for {family.looks_for}." for family in FORMATS}
        raise UnknownFormat("No SAE was found here.", refusals)
    return found[0]


def _certified(
    source: Path,
    info: SaeInfo,
    target: Path,
    repo_id: str | None,
    facts: Given | None,
    progress: Reporter,
) -> Certificate:
    certificate = certify(source, info.where, target, repo_id, facts, progress)
    if not certificate.passed:
        raise CertificateFailed(
            "The conversion does not give what its source gives: activations differ by "
            f"{certificate.max_rel_acts:.1e}, reconstructions by {certificate.max_rel_recon:.1e}."
        )
    return certificate


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
