"""`manage.py sae_sync_trainings`: the training runs of an existing miStudio, by its database."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from saes import trainings_sync
from saes.management.base import SaeCommand
from saes.management.tables import counted, plain


class Command(SaeCommand):
    help = (
        "Read the training runs of an existing miStudio from its database, which is not changed. "
        "Run again it brings the same rows up to date."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--database",
            required=True,
            metavar="URL",
            help="postgresql://USER@HOST/NAME; everybody on this machine can read a command "
            "line, so keep the password in PGPASSWORD or ~/.pgpass",
        )
        parser.add_argument(
            "--data-dir", type=Path, required=True, metavar="DIR",
            help="that installation's data directory, as this machine sees it",
        )  # fmt: skip

    def work(self, options: dict[str, Any]) -> None:
        told = trainings_sync.sync(options["database"], options["data_dir"])
        self.say(
            f"{counted(len(told.created), 'run')} new, {len(told.updated):,} updated, "
            f"{len(told.unchanged):,} as before."
        )
        if told.left_out and not self.in_json:
            self.note(f"{counted(len(told.left_out), 'run')} left out:")
            for training_id, why in told.left_out.items():
                self.note(f"  {plain(training_id)}: {plain(why)}")
        if self.in_json:
            self.print_json(asdict(told))
