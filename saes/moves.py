"""Moving jobs between their states: each move is one conditional write, and one of two wins.

They take ids, of one job or of thousands: what has ended or moved meanwhile is left as it is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Case, F, Min, Value, When
from django.utils import timezone

from saes import queueing, services, vault
from saes.errors import Cancelled, Conflict, SaeError
from saes.models import Job, Sae
from saes.progress import NotNow, Resource
from saes.recorder import carry_over
from saes.services import in_parts

State = Job.State


def cancel(ids: Iterable[str]) -> list[str]:
    """Stop jobs that have not ended; part files go. A worker at one notices within a second."""
    won = _take(
        ids, Job.ACTIVE, settle,
        state=State.CANCELLED, ended_at=timezone.now(), bytes_reserved=0,
        **said(Cancelled("Cancelled.")),
    )  # fmt: skip
    for job in won:
        _drop_parts_of_nobody(job.sae_id)
    return [job.id for job in won]


def pause(ids: Iterable[str]) -> list[str]:
    """Stop jobs for now: part files stay."""
    won = _take(
        ids, (State.QUEUED, State.RUNNING), _release,
        state=State.PAUSED, bytes_reserved=0, wait_until=None, waits_for="",
    )  # fmt: skip
    return [job.id for job in won]


def resume(ids: Iterable[str]) -> list[str]:
    """Paused jobs go on from their part files."""
    return [job.id for job in _take(ids, (State.PAUSED,), hand_on, state=State.QUEUED)]


def to_front(ids: Iterable[str]) -> list[str]:
    """Queued jobs come next, in the order that they had among themselves."""
    rows = Job.objects.filter(id__in=list(ids), state=State.QUEUED)
    with transaction.atomic():
        first = Job.objects.filter(state=State.QUEUED).aggregate(it=Min("turn"))["it"] or 0
        moved = list(rows.order_by("turn", "id").values_list("id", flat=True))
        start = min(first, 0) - len(moved)
        turns = {job_id: start + number for number, job_id in enumerate(moved)}
        for part in in_parts(turns):
            cases = [When(id=job_id, then=Value(turns[job_id])) for job_id in part]
            Job.objects.filter(id__in=part, state=State.QUEUED).update(
                turn=Case(*cases), version=F("version") + 1
            )
    return moved


def clear(ids: Iterable[str]) -> list[str]:
    """Jobs that have ended leave the page Activity; their SAEs still show them."""
    cleared: list[str] = []
    for part in in_parts(ids):
        rows = Job.objects.filter(id__in=part, listed=True).exclude(state__in=Job.ACTIVE)
        cleared += rows.values_list("id", flat=True)
        rows.update(listed=False)
    return cleared


def requeue(job: Job) -> bool:
    """A job whose worker is gone, or could not go on, waits for another one."""
    return _let_go(job, hand_on)


def postpone(job: Job, why: NotNow) -> bool:
    """A job that cannot go on now leaves its worker to others. Waiting is no attempt."""
    until = timezone.now() + timedelta(seconds=why.seconds)
    # Those that wait for the disk would else wake each other without end.
    after = _tell if why.resource == Resource.DISK else _release
    return _let_go(
        job, after, wait_until=until, waits_for=why.resource, message=str(why)[:500],
        bytes_reserved=0, attempt=F("attempt") - 1,
    )  # fmt: skip


# --- the one way they are written ----------------------------------------------------------------

After = Callable[[Sequence[Job]], None]


def _take(ids: Iterable[str], states: Sequence[str], after: After, **fields: Any) -> list[Job]:
    """Take jobs in these states from whoever works at them. Those that were won, as they were."""
    won: list[Job] = []
    for part in in_parts(ids):
        with transaction.atomic():
            rows = Job.objects.filter(id__in=part, state__in=states).order_by("id")
            jobs = list(rows.select_for_update())
            _write([job.id for job in jobs], **fields)
            after(list(_anew(jobs)))
        won += jobs
    return won


def _let_go(job: Job, after: After, **fields: Any) -> bool:
    """The worker of a job gives it back to the queue, if it is still its own."""
    with transaction.atomic():
        held = list(Job.objects.held(job).select_for_update())
        _write([it.id for it in held], state=State.QUEUED, **fields)
        after(list(_anew(held)))
    return bool(held)


def _write(ids: list[str], **fields: Any) -> None:
    Job.objects.filter(id__in=ids).update(
        lease="", worker="", bytes_per_second=0, version=F("version") + 1,
        updated_at=timezone.now(), **fields,
    )  # fmt: skip


def _anew(jobs: Sequence[Job]) -> Iterator[Job]:
    yield from Job.objects.filter(id__in=[job.id for job in jobs])


# --- what follows of them -------------------------------------------------------------------------


def hand_on(jobs: Sequence[Job]) -> None:
    """They wait for a worker from now on."""
    carry_over(*jobs)
    if jobs:
        transaction.on_commit(lambda: queueing.enqueue(jobs))


def settle(jobs: Sequence[Job]) -> None:
    """Jobs have ended: their SAEs take over the outcome, tokens that were for them alone go."""
    outcomes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for job in jobs:
        if job.brings_in:
            outcomes[job.error_code, job.error_message, job.error_solution].append(job.sae_id)
    for (code, message, solution), sae_ids in outcomes.items():
        Sae.objects.filter(id__in=sae_ids).update(
            error_code=code, error_message=message, error_solution=solution
        )
    vault.wipe([job.token_id for job in jobs if job.token_id])
    _release(jobs)


def _tell(jobs: Sequence[Job]) -> None:
    carry_over(*jobs)


def _release(jobs: Sequence[Job]) -> None:
    """They take no more room on the disk: the first that waits for some may look again."""
    carry_over(*jobs)
    waiting = Job.objects.filter(state=State.QUEUED, waits_for=Resource.DISK)
    others = waiting.exclude(id__in=[job.id for job in jobs])
    first = others.order_by("turn", "id").first()
    if first and Job.objects.filter(id=first.id).update(wait_until=None):
        transaction.on_commit(lambda: queueing.enqueue([first]))


def said(error: SaeError) -> dict[str, str]:
    """An error as the columns of a row."""
    return {
        "error_code": error.code,
        "error_message": str(error),
        "error_solution": error.next_step,
    }


def _drop_parts_of_nobody(sae_id: str) -> None:
    """Remove part files, unless a worker is still at the SAE: it tidies up before it lets go."""
    shelf = services.library()
    if shelf.has_parts(sae_id):
        with suppress(Conflict), shelf.hold(sae_id, lambda: None, seconds=0):
            shelf.drop_parts(sae_id)
