"""`manage.py sae_convert SOURCE TARGET --to FORMAT`: convert one SAE and prove it."""

import argparse
from pathlib import Path
from typing import Any

from saes import converter
from saes.bundles import WRITABLE
from saes.management.arguments import line, named_value, place
from saes.management.bar import Bar
from saes.management.base import SaeCommand
from saes.management.proof import in_words


class Command(SaeCommand):
    help = "Convert the SAE of a folder or file, and compare the result with its source."
    needs_database = False
    one_of_several = "--where "

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("source", type=Path)
        parser.add_argument("target", type=Path, help="a folder; it is made if it is not there")
        parser.add_argument("--to", required=True, choices=WRITABLE, metavar="FORMAT")
        parser.add_argument(
            "--where", type=place, help="the SAE's folder or file, where there are several"
        )
        parser.add_argument(
            "--repo-id", type=line, help="the repository it comes from: its name tells facts"
        )
        parser.add_argument(
            "--fact", type=named_value, action="append", default=[], metavar="NAME=VALUE"
        )

    def work(self, options: dict[str, Any]) -> None:
        bar = Bar(self.stderr)
        try:
            done = converter.convert(
                options["source"], options["target"], options["to"], options["where"],
                options["repo_id"], dict(options["fact"]), progress=bar,
            )  # fmt: skip
        finally:
            bar.close()
        for path in done.paths:
            self.say(str(path))
        if done.certificate:
            self.say(in_words(done.certificate))
        if self.in_json:
            proof = done.certificate.to_json() if done.certificate else None
            told = {"format": options["to"], "paths": [str(path) for path in done.paths]}
            self.print_json({**told, "certificate": proof})
