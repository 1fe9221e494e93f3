"""Routes of jobs: those of whoever asks, and of others for admins."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja import Query, Router, Schema, Status

from saes import answers, bringing, roles, steering
from saes.api.access import EDIT, who
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.requests import JobsAsked, RetryBody
from saes.api.schemas import POSTED, JobAnswer, Pagination, problems
from saes.models import Job

router = Router(tags=["jobs"])


class JobList(Schema):
    data: list[JobAnswer]
    pagination: Pagination


@router.get("jobs", summary="List jobs", response={200: JobList, **problems()})
def list_jobs(request: HttpRequest, asked: Query[JobsAsked]) -> Any:
    """The newest first."""
    wanted = {name: getattr(asked, name) for name in ("state", "kind", "sae_id", "batch_id")}
    found = roles.visible_jobs(who(request)).filter(**{n: v for n, v in wanted.items() if v})
    page = found.select_related("created_by")[asked.skip : asked.skip + asked.limit]
    return answers.page(
        [answers.of_job(job) for job in page], asked.skip, asked.limit, found.count()
    )


@router.get("jobs/{job_id}", summary="Get a job", response={200: JobAnswer, **problems(404)})
def get_job(request: HttpRequest, job_id: str) -> Any:
    return answers.of_job(roles.job_for(who(request), job_id))


def _route(act: Callable[[User, Job], bool], summary: str, told: str) -> None:
    @idempotent
    def steer(request: HttpRequest, job_id: str) -> Any:
        act(who(request), roles.job_for(who(request), job_id))
        return answers.of_job(roles.job_for(who(request), job_id))

    verb = act.__name__
    router.post(
        f"jobs/{{job_id}}/{verb}", auth=EDIT, summary=summary, description=told,
        openapi_extra=DOCUMENTED, response={200: JobAnswer, **problems(404, *POSTED)},
        operation_id=f"{verb}_job",
    )(steer)  # fmt: skip


_route(
    steering.cancel, "Cancel a job",
    "Stop it and remove what was half fetched. 409 where it has ended before.",
)  # fmt: skip
_route(steering.pause, "Pause a job", "Stop it for now: what was fetched stays.")
_route(steering.resume, "Resume a job", "Go on with a paused job where it stopped.")
_route(steering.front, "Move a job to the front", "Let it come next. 409 where it does not wait.")


@router.post(
    "jobs/{job_id}/retry", auth=EDIT, summary="Retry a job", openapi_extra=DOCUMENTED,
    response={202: JobAnswer, **problems(404, *POSTED)},
)  # fmt: skip
@idempotent
def retry(request: HttpRequest, job_id: str, body: RetryBody | None = None) -> Any:
    """Start a new job that does what this one did not. It goes on from what is on disk."""
    user = who(request)
    job = roles.job_for(user, job_id)
    with bringing.one_time(user, body.access_token if body else None) as token:
        again = steering.retry_job(user, job, token)
    return Status(202, answers.of_job(roles.job_for(user, again.id)))
