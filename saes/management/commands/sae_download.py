"""`manage.py sae_download REPO [WHERE …]`: bring SAEs of the Hub into the library."""

import argparse
from typing import Any

from saes import arrivals, bringing
from saes.batches import Order
from saes.hub import RepoRef
from saes.management import many
from saes.management.arguments import line, named_value, paragraphs, place
from saes.management.base import Failed
from saes.management.bringing import BringingCommand
from saes.management.finding import user_named
from saes.management.hub_token import add_token_arguments, secret_from


class Command(BringingCommand):
    help = "Bring an SAE of the Hub, several or all of a repository into the library."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("repo", type=place, help="owner/name, or the address of its page")
        parser.add_argument(
            "where",
            type=place,
            nargs="*",
            help="the SAE's folder or file in it; several are a batch",
        )
        parser.add_argument("--all", action="store_true", help="every SAE of the repository")
        parser.add_argument(
            "--anyway", action="store_true", help="begin a batch that the disk has no room for"
        )
        parser.add_argument("--revision", type=line, default="", help="a branch, tag or commit")
        parser.add_argument("--name", type=line, default="", help="of the SAE, or of the batch")
        parser.add_argument("--description", type=paragraphs, default="")
        parser.add_argument("--model-name", type=line, default="", help="whose inputs it reads")
        parser.add_argument(
            "--fact", type=named_value, action="append", default=[], metavar="NAME=VALUE"
        )
        self.add_wait(parser)
        add_token_arguments(parser)

    def work(self, options: dict[str, Any]) -> None:
        if options["all"] and options["where"]:
            raise Failed("--all means every SAE: name none beside it.", code=2)
        if options["all"] or len(options["where"]) > 1:
            self._several(options)
        else:
            self._one(options)

    def _several(self, options: dict[str, Any]) -> None:
        ref, user = RepoRef.parse(options["repo"], options["revision"]), user_named(options["user"])
        order = Order(
            name=options["name"].strip(),
            description=options["description"],
            model_name=options["model_name"].strip(),
            facts=dict(options["fact"]),
            asked=ref.revision,
            secret=secret_from(options, user),
            anyway=options["anyway"],
        )
        brought = many.bring_in(user, ref, None if options["all"] else options["where"], order)
        self.conclude_many(brought, wait=options["wait"])

    def _one(self, options: dict[str, Any]) -> None:
        wanted = arrivals.DownloadRequest(
            ref=RepoRef.parse(options["repo"], options["revision"]),
            where=options["where"][0] if options["where"] else ".",
            name=options["name"].strip(),
            description=options["description"],
            model_name=options["model_name"].strip(),
            facts=dict(options["fact"]),
        )
        user = user_named(options["user"])
        sae, job = bringing.download(user, wanted, secret_from(options, user))
        self.conclude_one(sae, job, wait=options["wait"])
