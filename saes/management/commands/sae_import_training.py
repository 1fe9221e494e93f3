"""`manage.py sae_import_training ID`: bring SAEs of a training run into the library."""

import argparse
from typing import Any

from saes import picking, trainings
from saes.errors import SeveralSaes
from saes.management.arguments import line, paragraphs, whole
from saes.management.base import Failed
from saes.management.bringing import BringingCommand
from saes.management.finding import user_named
from saes.models import Training
from saes.picking import Choice, Pair


class Command(BringingCommand):
    help = "Import SAEs of a completed training run, each as an SAE of its own."
    one_of_several = "--pair "

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("training", type=line, metavar="ID", help="of the run")
        parser.add_argument("--step", type=whole(0, 2**31 - 1), help="the last one if not told")
        parser.add_argument(
            "--pair", type=pair, action="append", default=[], metavar="L[:HOOK]",
            help="a layer with its hook, such as 3:residual; several are each taken exactly",
        )  # fmt: skip
        parser.add_argument("--all", action="store_true", help="every SAE of the step")
        parser.add_argument("--name", type=line, default="", help="followed by (L3-residual)")
        parser.add_argument("--description", type=paragraphs, default="")
        self.add_user(parser)
        self.add_wait(parser)

    def work(self, options: dict[str, Any]) -> None:
        if options["all"] and options["pair"]:
            raise Failed("--all means every SAE: name no pair beside it.", code=2)
        user, training = user_named(options["user"]), trainings.training_of(options["training"])
        choice = Choice(options["step"], options["pair"])
        if not (options["all"] or options["pair"]):
            _refuse_several(training, options["step"])
        brought = picking.bring_in(user, training, choice, options["name"], options["description"])
        self.conclude_many(brought, wait=options["wait"])


def pair(word: str) -> Pair:
    """`3:residual`, or `3` alone."""
    layer, colon, hook = line(word).partition(":")
    return Pair(whole(0, 10_000)(layer), hook if colon else None)


def _refuse_several(training: Training, step: int | None) -> None:
    """Raises SeveralSaes: one run may have hundreds, which nobody wanted by mistake."""
    items = picking.chosen(training, trainings.items_of(training), Choice(step))
    if len(items) > 1:
        raise SeveralSaes(
            f"{training.name} holds {len(items):,} SAEs at this step; --all imports them.",
            [
                f"{it.layer}:{it.hook}" if it.hook else f"{it.layer}"
                for it in items
                if it.layer is not None
            ],
        )
