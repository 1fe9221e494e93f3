"""From files of a library's SAE to its certified conversion: what downloads and imports share.

Every function may be killed at any point and called again: what is finished is found on disk.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from saes import converter, errors, services
from saes.at_hand import is_intact, share
from saes.certificate import Certificate
from saes.formats import FolderSource
from saes.formats.base import SaeInfo, Source
from saes.making import Made, Making, Order
from saes.models import Job, Sae, SaeFile
from saes.progress import Reporter, Stage
from saes.room import reserve
from saes.storage import Written


def look_at_headers(sae: Sae, source: Source) -> SaeInfo:
    """Shapes and facts before any weight is fetched; an SAE that cannot work fails here."""
    info = converter.inspect(source, sae.where, given=sae.given_facts)
    services.describe(sae, info)
    if "model_name" in sae.given_facts:
        converter.check_dimensions(sae.given_facts["model_name"], info)
    return info


def note_arrival(sae: Sae) -> None:
    sae.downloaded_at = sae.downloaded_at or timezone.now()
    sae.save(update_fields=["downloaded_at", "updated_at"])


def convert_again(job: Job, progress: Reporter) -> None:
    """Convert again from the source files on disk. Raises HashMismatch if those have changed."""
    progress.say(Stage.LOOKING, "Checking the files on disk")
    sources = list(job.sae.files.filter(kind=SaeFile.Kind.SOURCE))
    changed = [row.path for row in sources if not is_intact(row, progress)]
    if changed or not sources:
        Sae.objects.filter(id=job.sae_id).update(downloaded_at=None)  # a retry fetches them again
        raise errors.DataMissing(
            f"{changed[0] if changed else 'The source'} is missing or not as it came.",
            solution="Retry: what is missing is fetched again.",
        )
    convert_source(job, progress)


def convert_source(job: Job, progress: Reporter) -> None:
    """From checked source files to a certified SAE. Raises NeedsFacts, CertificateFailed."""
    sae, source = job.sae, services.library().source(job.sae_id)
    info = converter.inspect(source, sae.where, sae.repo_id, given=sae.given_facts)
    services.describe(sae, info)
    if sae.kept_because:
        _keep(sae, progress)
        return
    size = sum(sae.files.filter(kind=SaeFile.Kind.SOURCE).values_list("size", flat=True))
    convert_from(job, source, {}, size, progress)


def convert_from(
    job: Job,
    source: FolderSource | Path,
    hashes: Mapping[str, str],
    size: int,
    progress: Reporter,
    still: Callable[[], None] = lambda: None,
) -> None:
    """`hashes`: of the source's files that have no rows. `still()` raises where those changed."""
    sae = job.sae
    missing = converter.inspect(source, sae.where, sae.repo_id, given=sae.given_facts).missing
    if missing:
        raise errors.NeedsFacts("The files do not say enough to read this SAE.", missing)
    reserve(job, size)
    with making(sae, source, hashes, threading.Event()) as work:
        made = finished(sae, work, progress)
        still()
    conclude(sae, made, hashes)


def _keep(sae: Sae, progress: Reporter) -> None:
    """No plain dictionary: its files stay as they came."""
    progress.say(Stage.VERIFYING, "Kept as it came")
    sae.certificate = None
    sae.save(update_fields=["certificate", "updated_at"])
    services.finish(sae)


@contextmanager
def making(
    sae: Sae, source: FolderSource | Path, coming: Mapping[str, str], over: threading.Event
) -> Iterator[Making]:
    """The conversion at work on a draft, which takes the place of the former one at the end."""
    shelf = services.library()
    told = provenance(sae, coming)
    order = Order(source, sae.where, sae.repo_id, sae.given_facts, told)
    with shelf.draft(shelf.native(sae.id)) as draft, Making(order, draft, over) as work:
        yield work


def finished(sae: Sae, work: Making, progress: Reporter) -> Made:
    """Raises CertificateFailed."""
    made = work.result(progress)
    if not made.certificate.passed:
        sae.certificate = made.certificate.to_json()
        sae.save(update_fields=["certificate", "updated_at"])
        raise errors.CertificateFailed(
            "The converted SAE does not compute what its source computes, so it was thrown away."
        )
    for file in made.files:
        share(sae, file, lambda done: progress.stop_if_cancelled())
    progress.stop_if_cancelled()
    return made


def conclude(sae: Sae, made: Made, elsewhere: Mapping[str, str]) -> None:
    """The draft is in its place: the rows say so. `elsewhere`: hashes of files without rows."""
    hashes = {**_source_hashes(sae), **elsewhere}
    _record(sae, replace(made.certificate, source_files=hashes), made.files)
    services.finish(sae)
    if not settings.KEEP_SOURCE and not sae.is_upload:  # uploads do not stay
        services.drop_source(sae)


def provenance(sae: Sae, coming: Mapping[str, str] | None = None) -> dict[str, object]:
    """Where the bytes come from, for metadata.json. `coming`: hashes of files still to come."""
    return {
        "repo_id": sae.repo_id,
        "commit": sae.hf_commit,
        "path": sae.where,
        "files": dict(sorted({**_source_hashes(sae), **(coming or {})}.items())),
        **({"root": sae.import_root} if sae.import_root else {}),
        **({"training": sae.trained} if sae.trained else {}),
    }


def _source_hashes(sae: Sae) -> dict[str, str]:
    hashes = sae.files.filter(kind=SaeFile.Kind.SOURCE).values_list("path", "sha256")
    return {path.removeprefix("source/"): sha256 for path, sha256 in hashes}


@transaction.atomic
def _record(sae: Sae, certificate: Certificate, written: list[Written]) -> None:
    native = services.library().native(sae.id)
    services.drop_exports(sae)  # they say what the SAE was before
    sae.files.filter(kind=SaeFile.Kind.NATIVE).delete()
    for file in written:
        final = Written(native / file.path.name, file.size, file.sha256)
        services.record_file(sae, SaeFile.Kind.NATIVE, final)
    hashes = {file.path.name: file.sha256 for file in written}
    complete = replace(certificate, target_files=hashes)
    sae.certificate = complete.to_json()
    sae.save(update_fields=["certificate", "updated_at"])
