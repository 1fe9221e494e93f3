"""`manage.py sae_register_training DIR`: a training run of this machine gets a row."""

import argparse
import json
from pathlib import Path
from typing import Any

from saes import answers, training_records, trainings
from saes.errors import BadBody
from saes.management.arguments import line
from saes.management.base import SaeCommand
from saes.management.tables import plain
from saes.models import Training


class Command(SaeCommand):
    help = "Register a training run, so that its SAEs can be imported. Again, it is the same row."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("directory", type=Path, metavar="DIR", help="that holds checkpoints/")
        parser.add_argument("--id", type=line, default="", help="else its row's or its record's")
        parser.add_argument("--name", type=line, default="")
        parser.add_argument("--model", type=line, default="", help="whose activations it read")
        parser.add_argument(
            "--hyperparameters", type=Path, metavar="FILE", help="a JSON object: hidden_dim, …"
        )
        parser.add_argument("--status", choices=Training.Status.values, default="")

    def work(self, options: dict[str, Any]) -> None:
        file = options["hyperparameters"]
        training = trainings.register(
            options["directory"],
            options["id"],
            name=options["name"].strip(),
            model_name=options["model"].strip(),
            hyperparameters=_object_in(file) if file else None,
            status=options["status"],
        )
        self.say(f"Training {training.id}: {plain(training.name)}")
        if not trainings.is_run(Path(training.directory)):
            self.note(f"It holds neither {trainings.CHECKPOINTS}/ nor {trainings.COMMUNITY}/ yet.")
        if self.in_json:
            self.print_json(answers.of_training(training, training.saes.count()))


def _object_in(file: Path) -> dict[str, Any]:
    """Raises BadBody, OSError."""
    try:
        found = training_records.from_text(file.read_text("utf-8"))
    except UnicodeDecodeError:
        found = None
    if not isinstance(found, dict):
        raise BadBody(
            f"{file} holds no JSON object.",
            solution=f"Write it like {json.dumps({'hidden_dim': 768, 'latent_dim': 24576})}.",
        )
    return found
