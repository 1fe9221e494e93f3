"""Asking for an SAE in another format: what is there already is not made again."""

from django.contrib.auth.models import User

from saes import bundles, jobs, roles, services
from saes.bundles import Bundle
from saes.errors import Conflict, DataMissing
from saes.models import Job, Sae


def prepare(user: User | None, sae: Sae, format: str) -> tuple[Bundle, Job | None]:
    """The files, and the job that makes them where they are not there yet.

    Raises Forbidden, NotReady, CannotRepresent, DataMissing, Conflict during another job.
    """
    roles.require_edit(user)
    bundle = bundles.asked_for(sae, format)
    if bundles.is_on_disk(bundle):
        return bundle, None
    if format in (bundles.ORIGINAL, services.NATIVE):
        raise DataMissing(
            f"Files of {sae.name} are missing.",
            solution="Verify the SAE, then retry: what is missing is fetched and converted again.",
        )
    return bundle, _same(user, sae, format) or _started(user, sae, format)


def _started(user: User | None, sae: Sae, format: str) -> Job:
    try:
        return jobs.start_export(user, sae, format)
    except Conflict:
        # An equal request may have been faster by an instant.
        if same := _same(user, sae, format):
            return same
        raise


def _same(user: User | None, sae: Sae, format: str) -> Job | None:
    """The job that is at it already: a button pressed twice starts one."""
    job = sae.active_job
    wanted = job and job.kind == Job.Kind.EXPORT and job.target == format
    return job if job and wanted and roles.sees(user, job) else None
