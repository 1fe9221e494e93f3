"""`manage.py sae_jobs`: the jobs of everybody, and steering some, a batch or all of them."""

import argparse
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import User

from saes import accounts, activity, answers, roles, steering
from saes.errors import NotFound, SaeError
from saes.management.arguments import line, whole
from saes.management.base import Failed, SaeCommand
from saes.management.following import workers
from saes.management.tables import counted, cut, table
from saes.models import Batch, Job, JobQuerySet
from saes.templatetags.activity import waits
from saes.templatetags.values import duration, filesize

HEAD = (
    "id", "kind", "state", ">%", "at", ">speed", "left", "SAE", "name", "user", "created",
    "waits for",
)  # fmt: skip
ONE = {
    "pause": steering.pause,
    "resume": steering.resume,
    "cancel": steering.cancel,
    "front": steering.front,
    "clear": steering.clear,
}
ACTIONS = (*ONE, "retry")
NOTHING_TOLD = "Which jobs? `sae_jobs {} JOB …`, or `--batch BATCH`, or `--all-jobs`"


class Command(SaeCommand):
    help = "List jobs, the newest first; or steer some, those of a batch, or all."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("action", nargs="?", choices=ACTIONS)
        parser.add_argument("jobs", type=line, nargs="*", metavar="JOB", help="job_…")
        parser.add_argument("--batch", type=line, default="", help="those of this batch: batch_…")
        parser.add_argument("--all-jobs", action="store_true", help="do it to all jobs")
        parser.add_argument("--state", choices=Job.State.values, help="only these")
        parser.add_argument("--all", action="store_true", help="those that have ended, too")
        parser.add_argument("--limit", type=whole(1, 1000), default=50)
        parser.add_argument("--skip", type=whole(0, 10**7), default=0)

    def work(self, options: dict[str, Any]) -> None:
        action, ids = options["action"], list(dict.fromkeys(options["jobs"]))
        named = sum(map(bool, (ids, options["batch"], options["all_jobs"])))
        if action and named != 1 or not action and options["all_jobs"]:
            raise Failed(NOTHING_TOLD.format(action or "ACTION"), code=2)
        if options["batch"] and not Batch.objects.filter(id=options["batch"]).exists():
            raise NotFound(f"There is no batch {options['batch'][:50]!r}.")
        if not action:
            self._list(options)
        elif ids:
            self._steer(action, ids)
        else:
            self._steer_many(action, options["batch"])

    def _list(self, options: dict[str, Any]) -> None:
        found = Job.objects.select_related("created_by", "sae")
        if options["batch"]:
            found = found.filter(batch=options["batch"])
        if options["state"]:
            found = found.filter(state=options["state"])
        elif not options["all"]:
            found = found.filter(state__in=Job.ACTIVE)
        skip, limit, total = options["skip"], options["limit"], found.count()
        page = list(found[skip : skip + limit])
        if self.in_json:
            self.print_json(answers.page([answers.of_job(job) for job in page], skip, limit, total))
            return
        if page:
            self.say(table(HEAD, map(_cells, page)))
        more = f" `--skip {skip + limit}` shows more." if skip + limit < total else ""
        self.note(f"{len(page)} of {counted(total, 'job')}.{more}")
        if any(job.state == Job.State.QUEUED for job in page) and not workers():
            self.note("No worker runs: queued jobs begin with `make start`.")

    def _steer_many(self, action: str, batch_id: str) -> None:
        rows = activity.wished(action, batch_id=batch_id)
        changed = sum(
            steering.steer(user, action, jobs) for user, jobs in _by_user(action, rows)
        )  # fmt: skip
        self.say(f"{counted(changed, 'job')} changed.")
        if self.in_json:
            self.print_json({"changed": changed})

    def _steer(self, action: str, ids: list[str]) -> None:
        """Each by itself: what fails does not stop the others."""
        done, errors = [], {}
        for job_id in ids:
            try:
                job = _steered(action, job_id)
            except SaeError as error:
                errors[job_id] = error
                continue
            done.append(job)
            self.say(f"{job.id} is {job.get_state_display().lower()}.")
        told = {
            "jobs": [answers.of_job(job) for job in done],
            "errors": {job_id: error.to_json() for job_id, error in errors.items()},
        }
        if errors:
            words = [f"{job_id}: {error} {error.next_step}" for job_id, error in errors.items()]
            raise Failed("\n".join(words), told)
        if self.in_json:
            self.print_json(told)


def _steered(action: str, job_id: str) -> Job:
    """The job as it is now; of a retry, the new one. Raises NotFound, Conflict …"""
    job = Job.objects.select_related("sae", "created_by").filter(id=job_id).first()
    if job is None:
        raise NotFound(
            f"There is no job {job_id[:50]!r}.", solution="`manage.py sae_jobs --all` lists them."
        )
    if action == "retry":
        job = steering.retry_job(_in_whose_name(job.created_by), job)
    else:
        ONE[action](None, job)
    return Job.objects.select_related("created_by").get(id=job.id)


def _in_whose_name(user: User | None) -> User:
    """A retry is of whoever started the job: with their token, and for them to see."""
    return user if user and roles.may_edit(user) else accounts.ensure_owner()


def _by_user(action: str, rows: JobQuerySet) -> Iterator[tuple[User | None, JobQuerySet]]:
    """A retry needs somebody's name; everything else the server does itself."""
    if action != "retry":
        yield None, rows
        return
    for user in [*User.objects.filter(jobs__in=rows).distinct(), None]:
        yield _in_whose_name(user), rows.filter(created_by=user)


def _cells(job: Job) -> tuple[object, ...]:
    user = job.created_by.get_username() if job.created_by else None
    running = job.state == Job.State.RUNNING
    speed = f"{filesize(job.bytes_per_second)}/s" if running and job.bytes_per_second else None
    left = duration(job.seconds_left) if job.seconds_left else None
    at = job.stage if job.is_active else job.error_code
    return (
        job.id, job.kind, job.state, f"{job.progress:.0f}", at, speed, left, job.sae_id,
        cut(job.sae.name, 40), user, f"{job.created_at:%Y-%m-%d %H:%M}",
        waits(job) if job.state == Job.State.QUEUED else None,
    )  # fmt: skip
