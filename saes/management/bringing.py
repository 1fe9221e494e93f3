"""What commands share that bring SAEs in: telling of them, waiting for them, exit codes."""

import argparse
from typing import Any

from saes import accounts, answers, services
from saes.batches import Brought
from saes.management import many
from saes.management.arguments import line
from saes.management.bar import Bar
from saes.management.base import Failed, SaeCommand, answers_to
from saes.management.following import follow, workers
from saes.management.tables import plain
from saes.models import Job, Sae
from saes.templatetags.values import filesize

ENDED = (Sae.Status.READY, Sae.Status.ERROR)


class BringingCommand(SaeCommand):
    def add_user(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--user", type=line, default=accounts.OWNER, help="whose SAE it is")

    def add_wait(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--wait", action="store_true", help="until it is ready; done here if no worker runs"
        )

    # --- many ------------------------------------------------------------------------------------

    def conclude_many(self, brought: Brought, *, wait: bool) -> None:
        """Tell what was started. Raises Failed where one that was waited for is not ready."""
        for told_line in many.introduced(brought):
            self.say(told_line)
        failed = self._wait_for_all(brought) if wait else None
        told = many.to_json(brought, failed)
        if failed:
            said = [f"{len(failed):,} did not become ready:", *many.lines_of(failed)]
            raise Failed("\n".join(said), told)
        if self.in_json:
            self.print_json(told)
        elif brought.jobs and failed is None and not workers():
            self.note("No worker runs: they begin with `make start`, or now with --wait.")

    def _wait_for_all(self, brought: Brought) -> list[dict[str, Any]]:
        try:
            return many.follow_all(brought, Bar(self.stderr))
        except KeyboardInterrupt:
            self.note("`make start` goes on with the rest, and so does this command with --wait.")
            raise

    # --- one -------------------------------------------------------------------------------------

    def conclude_one(self, sae: Sae, job: Job | None, *, wait: bool) -> None:
        """Tell what was started. Raises Failed where it is not ready, though waited for."""
        self._introduce(sae, job)
        if sae.status not in ENDED:
            job = job or sae.active_job
        if wait:
            sae, job = self._wait(sae, job)
        elif job is None and sae.status == Sae.Status.ERROR:
            raise _failed(sae, job)  # it waits for an answer, and nothing was started
        self._conclude(sae, job)

    def _introduce(self, sae: Sae, job: Job | None) -> None:
        self.say(f"SAE {sae.id}" + (f", job {job.id}" if job else ""))
        if job is None:
            self.note(f"It is in the library already: {sae.get_status_display().lower()}.")

    def _wait(self, sae: Sae, job: Job | None) -> tuple[Sae, Job | None]:
        try:
            job = follow(job, Bar(self.stderr)) if job else None
        except KeyboardInterrupt:
            self.note(
                f"{sae.id} is not ready yet. `make start` goes on with it, and so does this "
                "command with --wait; `manage.py sae_jobs` shows it."
            )
            self._print(services.sae_of(sae.id), job)
            raise
        sae = services.sae_of(sae.id)
        if sae.status != Sae.Status.READY:
            raise _failed(sae, job)
        self.say(f"{plain(sae.name)} is ready: {filesize(sae.file_size_bytes)}.")
        return sae, job

    def _conclude(self, sae: Sae, job: Job | None) -> None:
        self._print(sae, job)
        if job and job.state == Job.State.QUEUED and not self.in_json and not workers():
            self.note("No worker runs: it begins with `make start`, or now with --wait.")

    def _print(self, sae: Sae, job: Job | None) -> None:
        if self.in_json:
            self.print_json(
                {"sae": answers.of_sae(sae), "job": answers.of_job(job) if job else None}
            )


def _failed(sae: Sae, job: Job | None) -> Failed:
    """Why it is not ready, in the words of its row."""
    if sae.status == Sae.Status.PAUSED and job:
        said, code = "It is paused.", "not_ready"
        solution = f"`manage.py sae_jobs resume {job.id}` goes on with it."
    else:
        said, code, solution = sae.error_message, sae.error_code, sae.error_solution
    told = {
        "detail": said,
        "code": code,
        "solution": solution,
        "sae_id": sae.id,
        **({"missing_facts": sae.missing_facts} if sae.missing_facts else {}),
    }
    next_calls = [f"  sae_facts {sae.id} {it}" for it in answers_to(sae.missing_facts)]
    return Failed("\n".join([f"{said} {solution}", *next_calls]), told)
