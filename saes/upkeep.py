"""What users do for the library as a whole: verifying all of it, making room."""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count

from saes import jobs, roles, services
from saes.errors import Conflict, NotReady
from saes.models import Batch, Job, Sae, last_turn

A_MOMENT = 1.0  # seconds
VERIFYING = "Verify all"  # how the name of such a batch begins


# --- verifying all --------------------------------------------------------------------------------


@transaction.atomic
def verify_all(user: User | None) -> Batch:
    """Hash the files of every ready SAE again, a job for each. Raises Forbidden, NotReady."""
    roles.require_edit(user)
    idle = Sae.objects.filter(status=Sae.Status.READY).exclude(jobs__state__in=Job.ACTIVE)
    ids = list(idle.order_by("id").values_list("id", flat=True))
    if not ids:
        raise NotReady("There is no ready SAE that no job is at work on.")
    turn = last_turn()
    name = f"{VERIFYING}: {len(ids):,} SAE{'' if len(ids) == 1 else 's'}"
    batch = Batch.objects.create(name=name, created_by=user)
    made = [
        Job(kind=Job.Kind.VERIFY, sae_id=it, created_by=user, batch=batch, turn=turn + number)
        for number, it in enumerate(ids)
    ]
    jobs.start_many(made)
    return batch


@dataclass(frozen=True)
class Verified:
    """How far the newest batch of that is."""

    batch: Batch
    total: int
    done: int
    failed: int

    @property
    def ended(self) -> int:
        return self.done + self.failed


def last_verified() -> Verified | None:
    batch = Batch.objects.filter(name__startswith=VERIFYING, hf_repo_id="").first()
    if batch is None:
        return None
    states = dict(batch.jobs.order_by().values_list("state").annotate(Count("id")))
    ended_badly = (Job.State.FAILED, Job.State.CRASHED, Job.State.CANCELLED)
    failed = sum(states.get(state, 0) for state in ended_badly)
    return Verified(batch, sum(states.values()), states.get(Job.State.DONE, 0), failed)


# --- making room ----------------------------------------------------------------------------------


def remove_source(user: User | None, sae: Sae) -> int:
    """Remove what was downloaded of a converted SAE. Bytes that this freed.

    Raises Forbidden, NotReady, Conflict.
    """
    roles.require_edit(user)
    shelf = services.library()
    shelf.require_there()
    with shelf.hold(sae.id, _no_check, A_MOMENT):
        sae = services.sae_of(sae.id)
        if sae.status != Sae.Status.READY or sae.kept_because:
            raise NotReady(f"{sae.name} has no converted form that could do without its source.")
        if sae.is_upload:
            raise Conflict(
                f"{sae.name} was uploaded: its files are nowhere else.",
                solution="Keep them, or delete the SAE.",
            )
        if sae.active_job:
            raise Conflict("A job is at work on this SAE.")
        shelf.refuse_link(sae.id)
        return services.drop_source(sae)


def _no_check() -> None:
    """It takes a moment only."""
