"""Several SAEs of one repository on the terminal: a batch, followed job by job."""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User

from saes import answers, batches, preview, services, vault
from saes.batches import Brought, Order
from saes.errors import NotFound
from saes.hub import RepoRef
from saes.management.bar import Bar
from saes.management.following import follow
from saes.management.tables import plain
from saes.models import Job, Sae


def bring_in(user: User, ref: RepoRef, paths: Sequence[str] | None, order: Order) -> Brought:
    """The SAEs at `paths`, or all where that is None."""
    token = order.secret or vault.reveal(vault.of(user))
    hub = services.hub_with(token)
    found = preview.look(hub, ref, (user.pk, vault.fingerprint(token)))
    rows = found.rows if paths is None else batches.named(found, paths)
    return batches.bring_in(user, found, rows, order)


def introduced(brought: Brought) -> list[str]:
    """What was begun, in lines."""
    count, here = len(brought.jobs), len(brought.here)
    batch = brought.batch.id if brought.batch else ""
    begun = f"Batch {batch}: {count:,} job{'' if count == 1 else 's'}" if batch else "Nothing to do"
    return [begun, *([f"{here:,} in the library already, or on their way"] if here else [])]


def follow_all(brought: Brought, bar: Bar) -> list[dict[str, Any]]:
    """Wait until each has ended, also those that were on their way. What did not become ready."""
    under_way = [job for sae in brought.here if (job := sae.active_job)]
    gone = [told for job in [*brought.jobs, *under_way] if (told := _follow(job, bar))]
    ids = [job.sae_id for job in brought.jobs] + [sae.id for sae in brought.here]
    rows = [row for part in services.in_parts(ids) for row in Sae.objects.filter(id__in=part)]
    return gone + [_told(sae) for sae in rows if sae.status != Sae.Status.READY]


def _follow(job: Job, bar: Bar) -> dict[str, Any] | None:
    try:
        follow(job, bar)
    except NotFound as error:  # deleted meanwhile: the others go on
        return {"sae_id": job.sae_id, "filepath": None, **error.to_json()}
    return None


def _told(sae: Sae) -> dict[str, Any]:
    if sae.status == Sae.Status.PAUSED:
        said, code, solution = "It is paused.", "not_ready", "`manage.py sae_jobs` resumes it."
    else:
        said, code, solution = sae.error_message, sae.error_code, sae.error_solution
    told = {"detail": said, "code": code, "solution": solution}
    return {"sae_id": sae.id, "filepath": sae.where, **told}


def lines_of(failed: Sequence[dict[str, Any]]) -> list[str]:
    return [f"  {plain(it['filepath'] or it['sae_id'])}: {it['detail']}" for it in failed]


def to_json(brought: Brought, failed: Sequence[dict[str, Any]] | None) -> dict[str, Any]:
    """As the API tells it; `failed` after a wait."""
    return {
        **answers.of_brought(brought.batch, brought.jobs, brought.here),
        **({} if failed is None else {"failed": list(failed)}),
    }
