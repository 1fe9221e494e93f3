"""`manage.py sae_facts SAE [NAME=VALUE …]`: what an SAE's files do not say, asked and answered."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from saes import steering
from saes.accounts import ensure_owner
from saes.errors import SaeError
from saes.management.facts import read_facts
from saes.models import Sae


class Command(BaseCommand):
    help = "Show the facts that an SAE misses, or give them and go on without downloading again."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("sae", help="its id, sae_…")
        parser.add_argument("facts", nargs="*", metavar="NAME=VALUE")

    def handle(self, *args: Any, **options: Any) -> None:
        sae = Sae.objects.filter(id=options["sae"]).first()
        if sae is None:
            raise CommandError(f"There is no SAE {options['sae']}.")
        if not options["facts"]:
            self._show_missing(sae)
            return
        try:
            self._give(sae, read_facts(options["facts"]))
        except SaeError as error:
            raise CommandError(f"{error} {error.next_step}") from error

    def _show_missing(self, sae: Sae) -> None:
        for fact in sae.missing_facts:
            self.stdout.write(f"{fact['name']}: {fact['question']}")
            for value, meaning in fact["readings"].items():
                self.stdout.write(f"    {fact['name']}={value}  {meaning}")
        if not sae.missing_facts:
            self.stdout.write(f"{sae.name} misses no fact.")

    def _give(self, sae: Sae, given: dict[str, str]) -> None:
        if job := steering.state_facts(ensure_owner(), sae, given):
            self.stdout.write(f"{sae.name} is being converted ({job.id}).")
        else:
            self.stdout.write("Saved.")
