"""`manage.py sae_upload SAE… --repo OWNER/NAME`: rehearse, ask, and publish to the Hub.

That everybody may see it is confirmed by `--public`, or by typing the name of a repository that is
public already. What is new or private becomes public by `--public` alone.
"""

import argparse
import sys
from typing import Any

from saes import answers, publications, roles, vault
from saes.errors import BadRequest, Cancelled, WrongVisibility
from saes.management.arguments import line
from saes.management.bar import Bar
from saes.management.base import Failed, SaeCommand
from saes.management.finding import sae_named, user_named
from saes.management.following import follow, workers
from saes.management.hub_token import add_token_arguments, secret_from
from saes.management.output import put
from saes.management.rehearsed import lines_of, passports_of
from saes.models import HubToken, Job
from saes.rehearsal import Rehearsal


class Command(SaeCommand):
    help = "Publish SAEs of the library to a repository of the Hub, in one commit."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("saes", type=line, nargs="+", metavar="SAE", help="its id or its name")
        parser.add_argument("--repo", type=line, required=True, metavar="OWNER/NAME")
        parser.add_argument(
            "--path", type=line, action="append", default=[], metavar="FOLDER",
            help="the folder in the repository, for each SAE in their order",
        )  # fmt: skip
        parser.add_argument("--license", type=line, default="", help="such as mit or cc-by-4.0")
        parser.add_argument("--license-name", type=line, default="", help="of a license `other`")
        parser.add_argument("--license-link", type=line, default="", help="where it stands")
        who_sees = parser.add_mutually_exclusive_group()
        who_sees.add_argument("--public", action="store_true", help="everybody may see it")
        who_sees.add_argument("--private", action="store_true", help="it must be private")
        parser.add_argument("--no-create", action="store_true", help="the repository must exist")
        parser.add_argument("--message", type=line, default="", help="of the commit")
        parser.add_argument("--pull-request", action="store_true", help="instead of a commit")
        parser.add_argument("--token-name", type=line, help="which of the stored Hub tokens")
        add_token_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="tell what would happen")
        parser.add_argument("--show-passport", action="store_true", help="show each passport, too")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument(
            "--wait", action="store_true", help="until it is published; done here if no worker runs"
        )

    def work(self, options: dict[str, Any]) -> None:
        user, token = user_named(options["user"]), _token(options)
        saes = [sae_named(word) for word in options["saes"]]
        wish = publications.wish_for(
            saes, options["repo"], options["path"], license=options["license"],
            license_name=options["license_name"], license_link=options["license_link"],
            private=_private(options), create=not options["no_create"], message=options["message"],
            as_pull_request=options["pull_request"],
        )  # fmt: skip
        told = publications.rehearse(user, saes, wish, token)
        for it in (*lines_of(told), *(passports_of(told) if options["show_passport"] else ())):
            self.say(it)
        if options["dry_run"]:
            self._conclude_rehearsal(told)
            return
        told.refuse()
        if not told.nothing_to_do:
            self._confirm(told, public=options["public"], yes=options["yes"])
        _, job = publications.publish(
            user, saes, wish, token, confirmed=told.public, digest=told.digest
        )
        if job is None:  # the rehearsal says that everything is there
            self._conclude_rehearsal(told)
        else:
            self._conclude(job, wait=options["wait"])

    def _conclude_rehearsal(self, told: Rehearsal) -> None:
        if self.in_json:
            self.print_json(told.to_json())
        told.refuse()

    def _confirm(self, told: Rehearsal, *, public: bool, yes: bool) -> None:
        """Raises WrongVisibility for a public repository without a word on that, and Cancelled."""
        if not yes:
            self._ask(told)
        elif told.public and not public:
            raise WrongVisibility(
                f"Everybody could see what is published to {told.wish.repo_id}.",
                solution="Add --public if everybody may, or choose another repository.",
            )

    def _ask(self, told: Rehearsal) -> None:
        """Raises Cancelled, and BadRequest where there is nobody to ask."""
        if not sys.stdin.isatty():
            raise BadRequest(
                "There is no terminal to ask on whether to publish this.",
                solution="Add --yes if you mean it; --dry-run only tells what would happen.",
            )
        wanted = told.wish.repo_id if told.public else "y"
        question = "Everybody may see it then. Type " if told.public else "Publish it? Type "
        put(self.stderr, f"{question}{wanted} to go on: ", ending="")
        if sys.stdin.readline().strip() != wanted:
            raise Cancelled("Nothing was published.", solution=f"Type {wanted} to publish.")

    def _conclude(self, job: Job, *, wait: bool) -> None:
        self.say(f"Publication {job.publication_id}, job {job.id}")
        if wait:
            job = self._wait(job)
        elif not self.in_json and not workers():
            self.note("No worker runs: it begins with `make start`, or now with --wait.")
        row = roles.publication_for(None, str(job.publication_id))
        if self.in_json:
            self.print_json(answers.of_publication(row))

    def _wait(self, job: Job) -> Job:
        try:
            job = follow(job, Bar(self.stderr))
        except KeyboardInterrupt:
            self.note("`make start` goes on with it; `manage.py sae_jobs` shows it.")
            raise
        row = roles.publication_for(None, str(job.publication_id))
        if job.state != Job.State.DONE:
            told = answers.of_publication(row)
            raise Failed(f"{job.error_message} {job.error_solution}", told)
        self.say(f"Published and verified: {row.pull_request or row.commit_url}")
        return job


def _private(options: dict[str, Any]) -> bool | None:
    if options["public"]:
        return False
    return True if options["private"] else None


def _token(options: dict[str, Any]) -> HubToken | str | None:
    user = user_named(options["user"])
    if options["token_name"]:
        return vault.named(user, options["token_name"])
    return secret_from(options, user)
