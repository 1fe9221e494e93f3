"""How an SAE comes into the library: look, fetch, convert, verify. Each step is done once.

Every function may be killed at any point and called again: what is finished is found on disk.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from saes import converter, errors, services
from saes.admission import own_files
from saes.certificate import Certificate
from saes.fetching import Fetching, is_intact
from saes.formats import by_slug
from saes.hub import Hub, HubSource, Listing, RemoteFile, RepoRef
from saes.models import Job, Sae, SaeFile
from saes.progress import Reporter, Stage
from saes.storage import MARGIN, Written, sha256_of


def download(job: Job, progress: Reporter) -> None:
    """From the Hub to a certified SAE. Fetches nothing that is already there."""
    progress.say(Stage.LOOKING, "Asking the Hub what is there")
    sae, hub = job.sae, services.hub_for(job.token)
    services.library().open_home(sae.id)
    progress.stop_if_cancelled()
    listing = _pinned_listing(sae, hub)
    names = _own_files(sae, listing)
    _look_at_headers(sae, HubSource(hub, listing))
    files = [_with_hash(listing.files[name]) for name in names]
    fetching = Fetching(job, hub, listing, files, progress)
    missing = fetching.missing()
    reserve(job, fetching.left(missing) + fetching.total)
    fetching.fetch(missing)
    sae.downloaded_at = sae.downloaded_at or timezone.now()
    sae.save(update_fields=["downloaded_at", "updated_at"])
    _convert(job, progress)


def convert(job: Job, progress: Reporter) -> None:
    """Convert again from the source files on disk. Raises HashMismatch if those have changed."""
    progress.say(Stage.LOOKING, "Checking the files on disk")
    sources = list(job.sae.files.filter(kind=SaeFile.Kind.SOURCE))
    changed = [row.path for row in sources if not is_intact(row, progress)]
    if changed or not sources:
        Sae.objects.filter(id=job.sae_id).update(downloaded_at=None)  # a retry fetches them again
        raise errors.DataMissing(
            f"{changed[0] if changed else 'The source'} is missing or not as it was downloaded.",
            solution="Retry: what is missing is fetched again.",
        )
    _convert(job, progress)


def _pinned_listing(sae: Sae, hub: Hub) -> Listing:
    """The repository at the commit that was resolved once, however often this is called."""
    asked = RepoRef(sae.hf_repo_id, sae.hf_repo_type, sae.hf_commit or sae.hf_revision)
    if sae.hf_commit:
        return hub.files_at(asked)
    pinned, _ = hub.resolve(asked)
    sae.hf_commit, sae.hf_repo_type = pinned.revision, pinned.type
    sae.save(update_fields=["hf_commit", "hf_repo_type", "updated_at"])
    return hub.files_at(pinned)


def _own_files(sae: Sae, listing: Listing) -> list[str]:
    """If the Hub was away when it was asked for, the row may name a file of it."""
    where, names = own_files(listing, sae.hf_filepath)
    if where != sae.hf_filepath:
        sae.hf_filepath = where
        sae.save(update_fields=["hf_filepath", "updated_at"])
    return names


def _with_hash(file: RemoteFile) -> RemoteFile:
    """Without the Hub's hash nothing could be verified, and nothing is fetched."""
    if not file.expected.oid:
        raise errors.HubMisbehaved(f"{file.name}: the Hub gives no valid hash.")
    return file


def _look_at_headers(sae: Sae, source: HubSource) -> None:
    """Shapes and facts before any weight is fetched; an SAE that cannot work fails here."""
    info = converter.inspect(source, sae.hf_filepath, given=sae.given_facts)
    services.describe(sae, info)
    if "model_name" in sae.given_facts:
        converter.check_dimensions(sae.given_facts["model_name"], info)


def reserve(job: Job, needed: int) -> None:
    """Set bytes of the disk aside, or raise DiskFull with the numbers."""
    # The write is committed before the sum: of two jobs at once, the later one sees the other.
    Job.objects.held(job).update(bytes_reserved=needed)
    job.bytes_reserved = needed
    others = Job.objects.filter(state=Job.State.RUNNING).exclude(id=job.id)
    taken = others.aggregate(total=Sum("bytes_reserved"))["total"] or 0
    free = services.library().free()
    if needed + taken + MARGIN > free:
        raise errors.DiskFull(
            f"This needs {needed:,} bytes; {free:,} are free, {taken:,} of them promised to other "
            f"jobs, and {MARGIN:,} stay free."
        )


def _convert(job: Job, progress: Reporter) -> None:
    """From checked source files to a certified SAE. Raises NeedsFacts, CertificateFailed."""
    sae, source = job.sae, services.library().source(job.sae_id)
    info = converter.inspect(source, sae.hf_filepath, sae.hf_repo_id, given=sae.given_facts)
    services.describe(sae, info)
    if sae.kept_because:
        _keep(sae, progress)
        return
    if info.missing:
        raise errors.NeedsFacts("The files do not say enough to read this SAE.", info.missing)
    reserve(job, sum(sae.files.filter(kind=SaeFile.Kind.SOURCE).values_list("size", flat=True)))
    _write_and_certify(sae, progress)
    services.finish(sae)


def _keep(sae: Sae, progress: Reporter) -> None:
    """No plain dictionary: its files stay as they came, each checked against the Hub's hash."""
    progress.say(Stage.VERIFYING, "Kept as downloaded")
    sae.certificate = None
    sae.save(update_fields=["certificate", "updated_at"])
    services.finish(sae)


def _write_and_certify(sae: Sae, progress: Reporter) -> None:
    shelf = services.library()
    progress.say(Stage.CONVERTING, "Converting to the miStudio form")
    with shelf.draft(shelf.native(sae.id)) as draft:
        converter.convert(
            shelf.source(sae.id), draft, "mistudio", sae.hf_filepath, sae.hf_repo_id,
            sae.given_facts, certify=False, progress=progress, provenance=provenance(sae),
        )  # fmt: skip
        certificate = _certify(sae, draft, progress)
        written = _written(draft)
        progress.stop_if_cancelled()
    _record(sae, certificate, written)


def _written(folder: Path) -> list[Written]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [Written(path, path.stat().st_size, sha256_of(path)) for path in files]


def _certify(sae: Sae, draft: Path, progress: Reporter) -> Certificate:
    progress.say(Stage.VERIFYING, "Comparing the written SAE with its source")
    source = services.library().source(sae.id)
    certificate = converter.certify(
        source, sae.hf_filepath, draft, sae.hf_repo_id, sae.given_facts, progress
    )
    if not certificate.passed:
        sae.certificate = certificate.to_json()
        sae.save(update_fields=["certificate", "updated_at"])
        raise errors.CertificateFailed(
            "The converted SAE does not compute what its source computes, so it was thrown away."
        )
    return certificate


def provenance(sae: Sae) -> dict[str, object]:
    """Where the bytes come from, for metadata.json."""
    return {
        "repo_id": sae.hf_repo_id,
        "commit": sae.hf_commit,
        "path": sae.hf_filepath,
        "files": _source_hashes(sae),
    }


def _source_hashes(sae: Sae) -> dict[str, str]:
    hashes = sae.files.filter(kind=SaeFile.Kind.SOURCE).values_list("path", "sha256")
    return {path.removeprefix("source/"): sha256 for path, sha256 in hashes}


def export(job: Job, progress: Reporter) -> None:
    """A ready SAE in another format, certified, beside its own files. Raises CannotRepresent."""
    sae, shelf, format = job.sae, services.library(), job.target
    progress.say(Stage.CONVERTING, f"Converting to {by_slug(format).label}")
    reserve(job, sum(sae.files.filter(kind=SaeFile.Kind.NATIVE).values_list("size", flat=True)))
    final = shelf.export(sae.id, format)
    with shelf.draft(final) as draft:
        done = converter.convert(shelf.native(sae.id), draft, format, progress=progress)
        _refuse_changed(sae, done)
        written = [replace(it, path=final / it.path.relative_to(draft)) for it in _written(draft)]
        progress.stop_if_cancelled()
    _record_export(sae, final, written)


def _refuse_changed(sae: Sae, done: converter.Conversion) -> None:
    """What was read must be what was certified: a copy of damaged weights is an exact copy, too."""
    read = done.certificate.source_files if done.certificate else {}
    for file in sae.files.filter(kind=SaeFile.Kind.NATIVE):
        if read.get(file.path.removeprefix("native/")) != file.sha256:
            raise errors.DataMissing(
                f"`{file.path}` is not as it was recorded.",
                solution="Verify the SAE, then retry: what changed is fetched and converted again.",
            )


@transaction.atomic
def _record_export(sae: Sae, final: Path, written: list[Written]) -> None:
    folder = final.relative_to(services.library().home(sae.id)).as_posix()
    sae.files.filter(path__startswith=f"{folder}/").delete()  # of an earlier one
    for file in written:
        services.record_file(sae, SaeFile.Kind.EXPORT, file)
    services.finish(sae)


def verify(job: Job, progress: Reporter) -> None:
    """Hash every file of a ready SAE again. Raises DataMissing; the SAE is an error then."""
    progress.say(Stage.VERIFYING, "Reading every file again")
    files = list(job.sae.files.all())
    total, done = sum(file.size for file in files), 0
    for file in files:
        if not services.is_as_recorded(file, partial(_tick, progress, done, total)):
            error = errors.DataMissing(
                f"`{file.path}` is missing or not as it was recorded.",
                solution="Retry: what changed is fetched and converted again.",
            )
            services.distrust(job.sae, error)
            raise error
        done += file.size


def _tick(progress: Reporter, before: int, total: int, done: int) -> None:
    progress.advance(before + done, total)


@transaction.atomic
def _record(sae: Sae, certificate: Certificate, written: list[Written]) -> None:
    native = services.library().native(sae.id)
    services.drop_exports(sae)  # they say what the SAE was before
    sae.files.filter(kind=SaeFile.Kind.NATIVE).delete()
    for file in written:
        final = Written(native / file.path.name, file.size, file.sha256)
        services.record_file(sae, SaeFile.Kind.NATIVE, final)
    hashes = {file.path.name: file.sha256 for file in written}
    complete = replace(certificate, source_files=_source_hashes(sae), target_files=hashes)
    sae.certificate = complete.to_json()
    sae.save(update_fields=["certificate", "updated_at"])


WORK = {
    Job.Kind.DOWNLOAD: download,
    Job.Kind.CONVERT: convert,
    Job.Kind.EXPORT: export,
    Job.Kind.VERIFY: verify,
}
