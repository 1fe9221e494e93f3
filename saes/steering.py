"""What users do to SAEs and jobs, each as far as their role lets them: pages, API and admin alike.

`user` is who asks; None is the server itself, such as a command on its terminal.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, Value, When

from saes import folders, jobs, moves, publications, roles, services
from saes.bringing import can_go_on, go_on, held, jobs_for
from saes.errors import Conflict, DataMissing, SaeError
from saes.folders import Place
from saes.models import HubToken, Job, JobQuerySet, Sae
from saes.recorder import nudge

LET_GO_SECONDS = 5.0  # a worker notices within one second, unless the Hub is stalling
RETRIED = (Job.State.FAILED, Job.State.CRASHED, Job.State.CANCELLED)


def cancel(user: User | None, job: Job) -> bool:
    """Stop it. Asked twice it is cancelled once. Raises Forbidden, Conflict where it has ended."""
    roles.require_control(user, job)
    return bool(moves.cancel([job.id])) or _is_so(job, Job.State.CANCELLED)


def pause(user: User | None, job: Job) -> bool:
    """Stop it for now. Asked twice it is paused once. Raises Forbidden, Conflict."""
    roles.require_control(user, job)
    return bool(moves.pause([job.id])) or _is_so(job, Job.State.PAUSED)


def resume(user: User | None, job: Job) -> bool:
    """Go on with a paused job. Raises Forbidden, Conflict where it has ended."""
    roles.require_control(user, job)
    return bool(moves.resume([job.id])) or _is_so(job, Job.State.QUEUED, Job.State.RUNNING)


def front(user: User | None, job: Job) -> bool:
    """Let it come next. Raises Forbidden, Conflict where it does not wait."""
    roles.require_control(user, job)
    return bool(moves.to_front([job.id])) or _is_so(job, Job.State.RUNNING)


def clear(user: User | None, job: Job) -> bool:
    """Take a job that has ended off the page Activity. Raises Forbidden, Conflict before that."""
    roles.require_control(user, job)
    return bool(moves.clear([job.id])) or _is_so(job, Job.State.DONE, *RETRIED)


def _is_so(job: Job, *states: Job.State) -> bool:
    job = jobs.job_of(job.id)
    if job.state not in states:
        now = "is" if job.is_active else "has ended: it is"
        raise Conflict(f"This job {now} {job.get_state_display().lower()}.")
    return False


# --- many at once ---------------------------------------------------------------------------------

VERBS: dict[str, Callable[[Iterable[str]], list[str]]] = {
    "pause": moves.pause,
    "resume": moves.resume,
    "cancel": moves.cancel,
    "front": moves.to_front,
    "clear": moves.clear,
}


def steer(user: User | None, verb: str, rows: JobQuerySet) -> int:
    """Pause, resume, cancel, front, clear or retry whichever of these jobs `user` may.

    Asked twice it changes nothing more. How many it changed. Raises Forbidden.
    """
    return len(steered(user, verb, rows))


def steered(user: User | None, verb: str, rows: JobQuerySet) -> list[str]:
    """The same, and which of them it changed; of a retry, those that another job does anew."""
    roles.require_edit(user)
    mine = roles.controlled(user, rows)
    if verb == "retry":
        return [*_retry_failed(user, mine), *_ask_again(user, mine)]
    # What runs comes first: with thousands behind it, it is to stop at once all the same.
    first = Case(When(state=Job.State.RUNNING, then=Value(0)), default=Value(1))
    return VERBS[verb](mine.order_by(first, "turn", "id").values_list("id", flat=True))


def _retry_failed(user: User | None, rows: JobQuerySet) -> list[str]:
    """Each SAE once, in its batch again, where nothing else has begun with it since."""
    with transaction.atomic():
        failed = rows.filter(state__in=RETRIED, kind__in=Job.BRINGS_IN).select_related("sae")
        newest = {job.sae_id: job for job in failed.order_by("created_at")}
        at_work = set(Job.objects.active().values_list("sae_id", flat=True))
        again = [
            job for it, job in newest.items() if it not in at_work and can_go_on(job.sae)
        ]  # fmt: skip
        made = jobs_for(user, [job.sae for job in again], None, None)
        for job, former in zip(made, again, strict=True):
            job.batch_id = former.batch_id
        jobs.start_many(made)
        return [job.id for job in again]


def _ask_again(user: User | None, rows: JobQuerySet) -> list[str]:
    """Exports and checks that failed, each by itself: what cannot be done now is left out."""
    failed = rows.filter(state__in=RETRIED).exclude(kind__in=Job.BRINGS_IN).select_related("sae")
    newest = {
        (it.sae_id, it.kind, it.target, it.publication_id): it
        for it in failed.order_by("created_at")
    }
    asked = []
    for job in newest.values():
        with suppress(SaeError):
            retry_job(user, job)
            asked.append(job.id)
    return asked


# --- going on -------------------------------------------------------------------------------------


def retry(user: User | None, sae: Sae, token: HubToken | None = None) -> Job:
    """Go on where the last job of an SAE that is not ready failed. Raises Conflict, Forbidden."""
    roles.require_edit(user)
    if sae.status == Sae.Status.READY:
        raise Conflict("This SAE is ready: there is nothing to retry.")
    return go_on(user, sae, token)


def state_facts(user: User | None, sae: Sae, given: Mapping[str, Any]) -> Job | None:
    """Store what the user states. The job, where the SAE must be converted anew for it.

    Raises what services.give_facts() raises, and Forbidden.
    """
    roles.require_edit(user)
    with held(sae), transaction.atomic():
        if not services.give_facts(sae, given):
            return None
        if not services.has_source(sae):
            _require_origin(sae)
        return go_on(user, sae)


def retry_job(user: User | None, job: Job, token: HubToken | None = None) -> Job:
    """A new job that does what this one did not. Raises Conflict where it did, or still may."""
    roles.require_control(user, job)
    if job.state not in RETRIED:
        raise Conflict("Only a job that failed or was cancelled can be retried.")
    if job.kind == Job.Kind.EXPORT:
        return jobs.start_export(user, job.sae, job.target)
    if job.kind == Job.Kind.VERIFY:
        return jobs.start_verifying(user, job.sae)
    if job.kind == Job.Kind.PUBLISH:
        return publications.again(user, job, token)
    return retry(user, job.sae, token)


def verify(user: User | None, sae: Sae) -> Job:
    """Hash every file again. Raises Forbidden, NotReady, Conflict."""
    roles.require_edit(user)
    return jobs.start_verifying(user, sae)


def convert_again(user: User | None, sae: Sae) -> Job:
    """From the source files, fetched again where they were not kept. Raises Forbidden, Conflict."""
    roles.require_edit(user)
    if services.has_source(sae):
        return jobs.start_conversion(user, sae)
    _require_origin(sae)
    return go_on(user, sae)


def _require_origin(sae: Sae) -> None:
    """An SAE that is ready is not made an error for a folder that is gone. Raises Conflict."""
    if not sae.import_root:
        return
    try:
        folders.opened(Place(sae.import_root, sae.import_path))
    except SaeError as error:
        raise Conflict(
            f"The files that {sae.name} was made of are not there any more.",
            solution="It stays as it is: certified, and ready.",
        ) from error


def reread(user: User | None, sae: Sae) -> None:
    """Facts and shapes from the files again. Raises Forbidden, NotReady, BrokenFile …"""
    roles.require_edit(user)
    services.reread(sae)


def delete_sae(user: User | None, sae: Sae, *, keep_files: bool) -> str:
    """Stop the SAE's jobs, then remove it. Returns where its files are kept, or nothing.

    Raises Forbidden; DataAway where the disk is not mounted; DataMissing where its files cannot be
    removed: then the row stays, too; and Conflict where the files are to be kept and a worker does
    not let go of them in time.
    """
    roles.require(user, roles.DELETE)
    services.library().require_there()
    at_work = sae.active_jobs
    for job in at_work:
        roles.require_control(user, job)
    moves.cancel([job.id for job in at_work])
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
