"""Routes of many jobs at once, and of batches. Asked twice, each changes nothing more."""

from typing import Any

from django.http import HttpRequest
from ninja import Router

from saes import activity, answers, roles, steering
from saes.api.access import EDIT, who
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.requests import WhichBody
from saes.api.schemas import POSTED, BatchAnswer, Changed, problems

router = Router(tags=["jobs"])


def _route(verb: str, summary: str, told: str) -> None:
    @idempotent
    def steer(request: HttpRequest, body: WhichBody) -> Any:
        jobs = activity.wished(verb, body.job_ids, body.batch_id or "")
        return {"changed": steering.steer(who(request), verb, jobs)}

    router.post(
        f"jobs/{verb}", auth=EDIT, summary=summary, description=told, openapi_extra=DOCUMENTED,
        response={200: Changed, **problems(*POSTED)}, operation_id=f"{verb}_jobs",
    )(steer)  # fmt: skip


# Jobs that cannot be changed so, and those of others, are left as they are.
_route("pause", "Pause jobs", "Stop them for now: what was fetched stays.")
_route("resume", "Resume jobs", "Go on with those that are paused, where they stopped.")
_route("cancel", "Cancel jobs", "Stop them and remove what was half fetched.")
_route("retry", "Retry jobs", "Start anew what failed; of those that are named, also cancelled.")
_route("front", "Move jobs to the front", "Those that wait come next, in their own order.")
_route("clear", "Clear jobs", "Take those that have ended off the page Activity.")


@router.get(
    "batches/{batch_id}", summary="Get a batch", response={200: BatchAnswer, **problems(404)}
)
def get_batch(request: HttpRequest, batch_id: str) -> Any:
    """How far it is: each SAE counts once, by its newest job."""
    user = who(request)
    batch = roles.batch_for(user, batch_id)
    return answers.of_batch(batch, activity.summary(batch, roles.visible_jobs(user)))
