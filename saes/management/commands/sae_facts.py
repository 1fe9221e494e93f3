"""`manage.py sae_facts SAE [NAME=VALUE …]`: what an SAE's files do not say, asked and answered."""

import argparse
from typing import Any

from saes import answers, services, steering
from saes.accounts import ensure_owner
from saes.management.arguments import line, named_value
from saes.management.base import SaeCommand
from saes.management.finding import sae_named
from saes.management.tables import plain
from saes.models import Sae


class Command(SaeCommand):
    help = "Show the facts that an SAE misses, or give them and go on without downloading again."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("sae", type=line, help="its id, sae_…, or its name")
        parser.add_argument("facts", type=named_value, nargs="*", metavar="NAME=VALUE")

    def work(self, options: dict[str, Any]) -> None:
        sae = sae_named(options["sae"])
        if options["facts"]:
            self._give(sae, dict(options["facts"]))
        elif self.in_json:
            told = {"sae_id": sae.id, "missing_facts": sae.missing_facts, "facts": sae.facts}
            self.print_json(told | {"stated": sae.given_facts})
        else:
            self._show_missing(sae)

    def _show_missing(self, sae: Sae) -> None:
        for fact in sae.missing_facts:
            self.say(f"{fact['name']}: {fact['question']}")
            for value, meaning in fact["readings"].items():
                self.say(f"    {fact['name']}={value}  {meaning}")
        if not sae.missing_facts:
            self.say(f"{plain(sae.name)} misses no fact.")

    def _give(self, sae: Sae, given: dict[str, str]) -> None:
        job = steering.state_facts(ensure_owner(), sae, given)
        self.say(f"{plain(sae.name)} is being converted ({job.id})." if job else "Saved.")
        if self.in_json:
            now = answers.of_sae(services.sae_of(sae.id))
            self.print_json({"sae": now, "job": answers.of_job(job) if job else None})
