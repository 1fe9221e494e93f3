"""`manage.py sae_jobs`: the jobs of everybody; cancel, pause, resume and retry them."""

import argparse
from typing import Any

from saes import accounts, answers, roles, steering
from saes.errors import NotFound, SaeError
from saes.management.arguments import line, whole
from saes.management.base import Failed, SaeCommand
from saes.management.following import workers
from saes.management.tables import counted, cut, table
from saes.models import Job
from saes.templatetags.values import duration, filesize

HEAD = ("id", "kind", "state", ">%", "at", ">speed", "left", "SAE", "name", "user", "created")
ACTIONS = ("cancel", "pause", "resume", "retry")


class Command(SaeCommand):
    help = "List jobs, the newest first; or cancel, pause, resume or retry some."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("action", nargs="?", choices=ACTIONS)
        parser.add_argument("jobs", type=line, nargs="*", metavar="JOB", help="job_…")
        parser.add_argument("--state", choices=Job.State.values, help="only these")
        parser.add_argument("--all", action="store_true", help="those that have ended, too")
        parser.add_argument("--limit", type=whole(1, 1000), default=50)
        parser.add_argument("--skip", type=whole(0, 10**7), default=0)

    def work(self, options: dict[str, Any]) -> None:
        action, ids = options["action"], list(dict.fromkeys(options["jobs"]))
        if action and not ids:
            raise Failed(f"Which jobs? `sae_jobs {action} JOB …`", code=2)
        if action:
            self._steer(action, ids)
        else:
            self._list(options)

    def _list(self, options: dict[str, Any]) -> None:
        found = Job.objects.select_related("created_by", "sae")
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
        # In the name of whoever started it: with their token, and for them to see.
        user = job.created_by
        job = steering.retry_job(
            user if user and roles.may_edit(user) else accounts.ensure_owner(), job
        )
    else:
        {"cancel": steering.cancel, "pause": steering.pause, "resume": steering.resume}[action](
            None, job
        )
    return Job.objects.select_related("created_by").get(id=job.id)


def _cells(job: Job) -> tuple[object, ...]:
    user = job.created_by.get_username() if job.created_by else None
    running = job.state == Job.State.RUNNING
    speed = f"{filesize(job.bytes_per_second)}/s" if running and job.bytes_per_second else None
    left = duration(job.seconds_left) if job.seconds_left else None
    at = job.stage if job.is_active else job.error_code
    return (
        job.id, job.kind, job.state, f"{job.progress:.0f}", at, speed, left, job.sae_id,
        cut(job.sae.name, 40), user, f"{job.created_at:%Y-%m-%d %H:%M}",
    )  # fmt: skip
