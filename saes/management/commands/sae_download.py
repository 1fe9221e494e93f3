"""`manage.py sae_download REPO [WHERE]`: bring an SAE of the Hub into the library."""

import argparse
from typing import Any

from saes import answers, services, steering
from saes.hub import RepoRef
from saes.management.arguments import line, named_value, paragraphs, place
from saes.management.bar import Bar
from saes.management.base import Failed, SaeCommand, answers_to
from saes.management.finding import user_named
from saes.management.following import follow, workers
from saes.management.hub_token import add_token_arguments, secret_from
from saes.management.tables import plain
from saes.models import Job, Sae
from saes.templatetags.values import filesize

ENDED = (Sae.Status.READY, Sae.Status.ERROR)


class Command(SaeCommand):
    help = "Bring an SAE of the Hub into the library."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("repo", type=place, help="owner/name, or the address of its page")
        parser.add_argument(
            "where", type=place, nargs="?", default=".", help="the SAE's folder or file in it"
        )
        parser.add_argument("--revision", type=line, default="", help="a branch, tag or commit")
        parser.add_argument("--name", type=line, default="", help="in the library")
        parser.add_argument("--description", type=paragraphs, default="")
        parser.add_argument("--model-name", type=line, default="", help="whose inputs it reads")
        parser.add_argument(
            "--fact", type=named_value, action="append", default=[], metavar="NAME=VALUE"
        )
        parser.add_argument(
            "--wait", action="store_true", help="until it is ready; done here if no worker runs"
        )
        add_token_arguments(parser)

    def work(self, options: dict[str, Any]) -> None:
        wanted = services.DownloadRequest(
            ref=RepoRef.parse(options["repo"], options["revision"]),
            where=options["where"],
            name=options["name"].strip(),
            description=options["description"],
            model_name=options["model_name"].strip(),
            facts=dict(options["fact"]),
        )
        user = user_named(options["user"])
        sae, job = steering.download(user, wanted, secret_from(options, user))
        self._introduce(sae, job)
        if sae.status not in ENDED:
            job = job or sae.active_job
        if options["wait"]:
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
