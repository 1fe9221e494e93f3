"""`manage.py sae_preview REPO`: what a repository of the Hub holds, without fetching a weight."""

import argparse
from typing import Any

from saes import accounts, preview, repo_summary, services, vault
from saes.hub import RepoRef
from saes.management.arguments import line, place
from saes.management.base import SaeCommand
from saes.management.finding import user_named
from saes.management.hub_token import add_token_arguments, secret_from
from saes.management.tables import counted, table
from saes.templatetags.values import filesize

HEAD = ("where", "format", ">layer", "hook", ">width", ">L0", ">size")


class Command(SaeCommand):
    help = "Show the SAEs of a repository on the Hub. No weight is fetched."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("repo", type=place, help="owner/name, or the address of its page")
        parser.add_argument("--revision", type=line, default="", help="a branch, tag or commit")
        add_token_arguments(parser)

    def work(self, options: dict[str, Any]) -> None:
        ref = RepoRef.parse(options["repo"], options["revision"])
        user = user_named(options["user"])
        secret = secret_from(options, user) or vault.reveal(vault.of(user))
        found = preview.look(services.hub_with(secret), ref, accounts.OWNER)
        told = repo_summary.of(found)
        if self.in_json:
            self.print_json(told)
            return
        if found.rows:
            self.say(table(HEAD, (_cells(found, row) for row in found.rows)))
        self._sum_up(found)

    def _sum_up(self, found: preview.Preview) -> None:
        listing, size = found.listing, filesize(sum(row.size for row in found.rows))
        self.say(
            f"{listing.repo_id} at {listing.commit[:10]}: {counted(len(found.rows), 'SAE')} "
            f"({size}), {counted(len(listing.files), 'file')} ({filesize(listing.total_size)})."
        )
        if found.access_problem:
            self.note(f"{found.access_problem} {found.access_problem.next_step}")
        if not found.rows:
            self.note("No SAE was found; `manage.py sae_formats` lists what is looked for.")


def _cells(found: preview.Preview, row: preview.Row) -> tuple[object, ...]:
    """What names tell; where they do not, what the header says, if it was read."""
    info = found.headers.get(row.where)
    layer = row.layer if row.layer is not None or info is None else info.get("layer")
    hook = row.hook_type or (info and info.get("hook_name"))
    width = row.width or (info and info.get("d_sae"))
    return (row.where, row.format, layer, hook, width, row.l0, filesize(row.size))
