"""What users do to SAEs and jobs, each as far as their role lets them: pages, API and admin alike.

`user` is who asks; None is the server itself, such as a command on its terminal.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from saes import admission, jobs, roles, services, vault
from saes.errors import AlreadyHere, Conflict, DataMissing
from saes.models import HubToken, Job, Sae
from saes.recorder import nudge
from saes.services import DownloadRequest

A_MOMENT = 1.0  # seconds
LET_GO_SECONDS = 5.0  # a worker notices within one second, unless the Hub is stalling
RETRIED = (Job.State.FAILED, Job.State.CRASHED, Job.State.CANCELLED)


def download(
    user: User | None,
    wanted: DownloadRequest,
    secret: str | None = None,
    *,
    previewed: bool = False,
) -> tuple[Sae, Job | None]:
    """Bring an SAE in. Asked again for one that is here, or on its way, it starts nothing.

    `secret` is a token of the Hub for this job alone; `previewed` says that repository and path
    were seen at the commit that is asked for. Raises Forbidden, BadFact, and what the Hub says.
    """
    roles.require(user, roles.ADD)
    standing = vault.of(user)
    if not previewed:
        wanted = admission.admitted(wanted, secret or vault.reveal(standing))
    with one_time(user, secret) as token:
        try:
            job = jobs.start_download(user, wanted, token or standing)
        except AlreadyHere as there:
            sae = services.sae_of(there.sae_id)
            again = _asked_again(user, sae, wanted, token)
            return services.sae_of(sae.id), again
    return services.sae_of(job.sae_id), job


def _asked_again(
    user: User | None, sae: Sae, wanted: DownloadRequest, token: HubToken | None
) -> Job | None:
    """One that failed goes on, with what is stated now; any other stays as it is."""
    if sae.status != Sae.Status.ERROR:
        return None
    with _held(sae), transaction.atomic():
        told_more = services.give_facts(sae, wanted.stated)
        return _go_on(user, sae, token) if told_more or not sae.missing_facts else None


@contextmanager
def one_time(user: User | None, secret: str | None) -> Iterator[HubToken | None]:
    """A token that came with a request, for the job that it starts. If none takes it, it goes."""
    token = vault.keep_for_one_job(user, secret) if secret else None
    try:
        yield token
    finally:
        if token:
            vault.wipe_unused(token)


def cancel(user: User | None, job: Job) -> bool:
    """Stop it. Asked twice it is cancelled once. Raises Forbidden, Conflict where it has ended."""
    roles.require_control(user, job)
    return jobs.cancel(job) or _is_so(job, Job.State.CANCELLED)


def pause(user: User | None, job: Job) -> bool:
    """Stop it for now. Asked twice it is paused once. Raises Forbidden, Conflict."""
    roles.require_control(user, job)
    return jobs.pause(job) or _is_so(job, Job.State.PAUSED)


def resume(user: User | None, job: Job) -> bool:
    """Go on with a paused job. Raises Forbidden, Conflict where it has ended."""
    roles.require_control(user, job)
    return jobs.resume(job) or _is_so(job, Job.State.QUEUED, Job.State.RUNNING)


def _is_so(job: Job, *states: Job.State) -> bool:
    job = jobs.job_of(job.id)
    if job.state not in states:
        raise Conflict(f"This job has ended: it is {job.get_state_display().lower()}.")
    return False


def retry(user: User | None, sae: Sae, token: HubToken | None = None) -> Job:
    """Go on where the last job of an SAE that is not ready failed. Raises Conflict, Forbidden."""
    roles.require_edit(user)
    if sae.status == Sae.Status.READY:
        raise Conflict("This SAE is ready: there is nothing to retry.")
    return _go_on(user, sae, token)


def state_facts(user: User | None, sae: Sae, given: Mapping[str, Any]) -> Job | None:
    """Store what the user states. The job, where the SAE must be converted anew for it.

    Raises what services.give_facts() raises, and Forbidden.
    """
    roles.require_edit(user)
    with _held(sae), transaction.atomic():
        return _go_on(user, sae) if services.give_facts(sae, given) else None


def _held(sae: Sae) -> AbstractContextManager[None]:
    """Nobody else writes below the SAE's folder meanwhile. Raises Conflict."""
    return services.library().hold(sae.id, _no_check, A_MOMENT)


def _go_on(user: User | None, sae: Sae, token: HubToken | None = None) -> Job:
    kind = Job.Kind.CONVERT if sae.downloaded_at else Job.Kind.DOWNLOAD
    token = token or vault.of(user)
    return jobs.start(Job(kind=kind, sae=sae, created_by=user, token=token))


def retry_job(user: User | None, job: Job, token: HubToken | None = None) -> Job:
    """A new job that does what this one did not. Raises Conflict where it did, or still may."""
    roles.require_control(user, job)
    if job.state not in RETRIED:
        raise Conflict("Only a job that failed or was cancelled can be retried.")
    if job.kind == Job.Kind.EXPORT:
        return jobs.start_export(user, job.sae, job.target)
    if job.kind == Job.Kind.VERIFY:
        return jobs.start_verifying(user, job.sae)
    return retry(user, job.sae, token)


def verify(user: User | None, sae: Sae) -> Job:
    """Hash every file again. Raises Forbidden, NotReady, Conflict."""
    roles.require_edit(user)
    return jobs.start_verifying(user, sae)


def convert_again(user: User | None, sae: Sae) -> Job:
    """From the source files on disk. Raises Forbidden, Conflict."""
    roles.require_edit(user)
    return jobs.start_conversion(user, sae)


def reread(user: User | None, sae: Sae) -> None:
    """Facts and shapes from the files again. Raises Forbidden, NotReady, BrokenFile …"""
    roles.require_edit(user)
    services.reread(sae)


def delete_sae(user: User | None, sae: Sae, *, keep_files: bool) -> str:
    """Stop the SAE's job, then remove it. Returns where its files are kept, or nothing.

    Raises Forbidden; DataMissing where its files cannot be removed: then the row stays, too; and
    Conflict where the files are to be kept and a worker does not let go of them in time.
    """
    roles.require(user, roles.DELETE)
    if job := sae.active_job:
        roles.require_control(user, job)
        jobs.cancel(job)
    services.library().refuse_link(sae.id)
    kept = _delete_but_keep(sae) if keep_files else _delete(sae)
    nudge(sae.id)
    return kept


def _delete_but_keep(sae: Sae) -> str:
    shelf = services.library()
    with shelf.hold(sae.id, _no_check, LET_GO_SECONDS):
        kept = services.delete_but_keep(sae)
    return shelf.relative(kept) if kept else ""


def _delete(sae: Sae) -> str:
    """Files first: what cannot be removed shall not be forgotten."""
    shelf, sae_id = services.library(), sae.id
    # If this is cut short, nobody takes what is left of the files for an SAE.
    services.distrust(sae, DataMissing("It was being deleted.", solution="Delete it again."))
    try:
        with shelf.hold(sae_id, _no_check, LET_GO_SECONDS):
            shelf.remove(sae_id)
            Sae.objects.filter(id=sae_id).delete()
    except Conflict:  # a worker is still at it: it removes the files itself, once it notices
        Sae.objects.filter(id=sae_id).delete()
    return ""


def _no_check() -> None:
    """Nobody can cancel a deletion."""
