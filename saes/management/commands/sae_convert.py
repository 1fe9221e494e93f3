"""`manage.py sae_convert SOURCE TARGET --to FORMAT`: convert one SAE and prove it."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from saes import converter
from saes.errors import NeedsFacts, SaeError, SeveralSaes
from saes.formats import FORMATS
from saes.formats.base import WritableFormat
from saes.management.facts import read_facts
from saes.progress import Silent, Stage

WRITABLE = [family.slug for family in FORMATS if isinstance(family, WritableFormat)]
WIDTH = 30


class Command(BaseCommand):
    help = "Convert the SAE of a folder or file, and compare the result with its source."
    requires_system_checks: list[str] = []  # Django's own way to say so

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("source", type=Path)
        parser.add_argument("target", type=Path, help="a folder; it is made if it is not there")
        parser.add_argument("--to", required=True, choices=WRITABLE, metavar="FORMAT")
        parser.add_argument("--where", help="the SAE's folder or file, where there are several")
        parser.add_argument("--repo-id", help="the repository it comes from: its name tells facts")
        parser.add_argument("--fact", action="append", default=[], metavar="NAME=VALUE")

    def handle(self, *args: Any, **options: Any) -> None:
        bar = Bar(self.stderr)
        try:
            done = converter.convert(
                options["source"], options["target"], options["to"], options["where"],
                options["repo_id"], read_facts(options["fact"]), progress=bar,
            )  # fmt: skip
        except SaeError as error:
            bar.close()
            raise CommandError("\n".join([f"{error} {error.next_step}", *_next(error)])) from error
        bar.close()
        self._report(done)

    def _report(self, done: converter.Conversion) -> None:
        for path in done.paths:
            self.stdout.write(str(path))
        proof = done.certificate
        if proof is not None and proof.method == "bits":
            self.stdout.write("Certified: every tensor is the same, bit for bit.")
        elif proof is not None:
            self.stdout.write(
                f"Certified: the same features fire for {proof.n_vectors} inputs; activations "
                f"differ by at most {proof.max_rel_acts:.0e}, reconstructions by "
                f"{proof.max_rel_recon:.0e}."
            )


def _next(error: SaeError) -> list[str]:
    """What may be given next: one SAE of several, or a fact that the files do not say."""
    if isinstance(error, SeveralSaes):
        return [f"  --where {where}" for where in error.found]
    if isinstance(error, NeedsFacts):
        return [
            f"  --fact {fact.name}={value}  {meaning}"
            for fact in error.missing
            for value, meaning in (fact.readings or {"…": fact.question}).items()
        ]
    return []


class Bar(Silent):
    """One line of a terminal for each stage; without a terminal, the stage's name alone."""

    def __init__(self, out: Any) -> None:
        self._out, self._live, self._drawn = out, sys.stderr.isatty(), 0.0
        self._said = ""

    def say(
        self, stage: Stage, message: str, *, file: str = "", index: int = 0, count: int = 0
    ) -> None:
        self.close()
        self._said = message
        self._out.write(f"{message}" if not self._live else f"\r{message}", ending="")

    def advance(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._live or (now - self._drawn < 0.1 and done < total):
            return
        self._drawn = now
        full = WIDTH * done // max(1, total)
        bar = "█" * full + "·" * (WIDTH - full)
        self._out.write(f"\r{self._said}  {bar} {100 * done // max(1, total):3} %", ending="")
        self._out.flush()

    def close(self) -> None:
        if self._said:
            self._out.write("")
        self._said = ""
