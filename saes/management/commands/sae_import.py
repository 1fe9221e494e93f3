"""`manage.py sae_import PATH [WHERE …]`: bring SAEs of this machine into the library."""

import argparse
from typing import Any

from saes import folders, imports
from saes.formats import FORMATS
from saes.management.arguments import line, long_place, named_value, paragraphs, place
from saes.management.base import Failed
from saes.management.bringing import BringingCommand
from saes.management.finding import user_named
from saes.models import Sae

SLUGS = [imports.AUTO, *(it.slug for it in FORMATS)]


class Command(BringingCommand):
    help = "Bring SAEs from a folder below one of the import roots into the library."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "path", type=long_place, help="of the SAE, or of a folder with several in it"
        )
        parser.add_argument("where", type=place, nargs="*", help="paths below the root: a batch")
        parser.add_argument("--all", action="store_true", help="every SAE in the folder")
        parser.add_argument("--anyway", action="store_true", help="also where there is no room")
        parser.add_argument("--name", type=line, default="", help="of the SAE, or of the batch")
        parser.add_argument("--description", type=paragraphs, default="")
        parser.add_argument("--format", choices=SLUGS, default=imports.AUTO, metavar="FORMAT")
        parser.add_argument("--model-name", type=line, default="", help="whose inputs it reads")
        parser.add_argument(
            "--placement", choices=Sae.Placement.values, default=Sae.Placement.COPY,
            help="copy the files, make hard links, or leave them in place",
        )  # fmt: skip
        parser.add_argument(
            "--fact", type=named_value, action="append", default=[], metavar="NAME=VALUE"
        )
        self.add_user(parser)
        self.add_wait(parser)

    def work(self, options: dict[str, Any]) -> None:
        if options["all"] and options["where"]:
            raise Failed("--all means every SAE: name none beside it.", code=2)
        user, wish = user_named(options["user"]), _wish(options)
        found = folders.place_of(options["path"])
        if not (options["all"] or options["where"]):
            sae, job = imports.import_one(user, found, wish)
            self.conclude_one(sae, job, wait=options["wait"])
            return
        wheres = options["where"] or [it.row.where for it in imports.look(user, found).offers]
        brought = imports.import_chosen(user, found, wheres, wish, anyway=options["anyway"])
        self.conclude_many(brought, wait=options["wait"])


def _wish(options: dict[str, Any]) -> imports.Wish:
    return imports.Wish(
        name=options["name"].strip(), description=options["description"],
        format=options["format"], model_name=options["model_name"].strip(),
        placement=Sae.Placement(options["placement"]), facts=dict(options["fact"]),
    )  # fmt: skip
