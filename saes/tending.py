"""What jobs do for SAEs that are in the library: make other formats of them, verify them."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from django.db import transaction

from saes import converter, errors, services
from saes.at_hand import share
from saes.certificate import Certificate
from saes.formats import by_slug
from saes.models import Job, Sae, SaeFile
from saes.progress import Reporter, Stage
from saes.room import reserve
from saes.storage import Written, sha256_of


def export(job: Job, progress: Reporter) -> None:
    """A ready SAE in another format, certified, beside its own files. Raises CannotRepresent."""
    progress.say(Stage.CONVERTING, f"Converting to {by_slug(job.target).label}")
    reserve(job, native_size(job.sae))
    make_export(job.sae, job.target, progress)


def native_size(sae: Sae) -> int:
    """Bytes of its own form on disk: other forms take about as many. No query where its files were
    prefetched."""
    return sum(it.size for it in sae.files.all() if it.kind == SaeFile.Kind.NATIVE)


def make_export(sae: Sae, format: str, progress: Reporter) -> None:
    """The caller holds the SAE, and has set room aside. Raises CannotRepresent, DataMissing."""
    shelf = services.library()
    final = shelf.export(sae.id, format)
    with shelf.draft(final) as draft:
        done = converter.convert(shelf.native(sae.id), draft, format, progress=progress)
        _refuse_changed(sae, done)
        drafted = _written(draft)
        for file in drafted:
            share(sae, file, lambda done: progress.stop_if_cancelled())
        written = [replace(it, path=final / it.path.relative_to(draft)) for it in drafted]
        progress.stop_if_cancelled()
    _record_export(sae, final, written, done.certificate)


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
def _record_export(
    sae: Sae, final: Path, written: list[Written], certificate: Certificate | None
) -> None:
    folder = final.relative_to(services.library().home(sae.id)).as_posix()
    sae.files.filter(path__startswith=f"{folder}/").delete()  # of an earlier one
    for file in written:
        services.record_file(sae, SaeFile.Kind.EXPORT, file)
    told = certificate.to_json() if certificate else None
    sae.files.filter(path__startswith=f"{folder}/").update(certificate=told)
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
            if file.kind == SaeFile.Kind.SOURCE or not services.has_source(job.sae):
                Sae.objects.filter(id=job.sae_id).update(downloaded_at=None)  # a retry fetches it
            raise error
        done += file.size


def _tick(progress: Reporter, before: int, total: int, done: int) -> None:
    progress.advance(before + done, total)


def _written(folder: Path) -> list[Written]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [Written(path, path.stat().st_size, sha256_of(path)) for path in files]
