"""`manage.py sae_demo`: a tiny training run and a tiny SAE, to try everything without a network."""

import argparse
from typing import Any

from saes import demo
from saes.management.bringing import BringingCommand
from saes.management.finding import user_named


class Command(BringingCommand):
    help = "Make a tiny training run and a tiny SAE, and bring the SAE in."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        self.add_user(parser)
        self.add_wait(parser)

    def work(self, options: dict[str, Any]) -> None:
        training, sae, job = demo.make(user_named(options["user"]))
        self.say(f"Training run {training.id} in {training.directory}")
        self.conclude_one(sae, job, wait=options["wait"])
