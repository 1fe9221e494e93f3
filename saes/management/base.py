"""What every command shares: --json, exit codes, and errors as a sentence with its next step.

Exit codes: 0 done; 1 refused or failed, the reason on stderr; 2 wrong usage; 130 Ctrl-C. With
--json one document goes to stdout, also where it failed: the error as the API would give it.
"""

import argparse
import errno
import json
import logging
import os
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import OperationalError

from saes.errors import DataMissing, DiskFull, NeedsFacts, SaeError, SeveralSaes
from saes.management import database
from saes.management.output import put
from saes.management.tables import plain

INTERRUPTED = 130


class Failed(CommandError):
    """It did not do all that it was asked to. `told` is what --json prints of that."""

    def __init__(self, message: str, told: Mapping[str, Any] | None = None, code: int = 1) -> None:
        super().__init__("\n".join(map(plain, message.splitlines())), returncode=code)
        self.told = told


class SaeCommand(BaseCommand):
    """Subclasses have `work()`; whatever it raises of SaeError and OSError becomes a sentence."""

    requires_system_checks: list[str] = []  # Django's own way to say so
    needs_database = True
    one_of_several = ""  # the option that names one SAE of several

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON document and nothing else"
        )

    def run_from_argv(self, argv: list[str]) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without this letter shows `?`
        # Where a server logs a warning, a command says the same in its own words.
        logging.getLogger("saes").setLevel(logging.ERROR)
        try:
            super().run_from_argv(argv)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def handle(self, *args: Any, **options: Any) -> None:
        self.in_json = options["json"]
        try:
            self._work(options)
        except Failed as failed:
            if self.in_json and failed.told is not None:
                self.print_json(failed.told)
            raise

    def _work(self, options: dict[str, Any]) -> None:
        try:
            if self.needs_database:
                database.prepare()
            self.work(options)
        except (SaeError, OSError, OperationalError) as error:
            known = _known(error)
            said = "\n".join([f"{known} {known.next_step}", *self._choices(known)])
            raise Failed(said, known.to_json()) from error

    def work(self, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def _choices(self, error: SaeError) -> list[str]:
        """What may be given next: one SAE of several, or a fact that the files do not say."""
        if isinstance(error, SeveralSaes):
            return [f"  {self.one_of_several}{it}" for it in error.found]
        if isinstance(error, NeedsFacts):
            missing = [fact.to_json() for fact in error.missing]
            return [f"  --fact {line}" for line in answers_to(missing)]
        return []

    def say(self, text: str) -> None:
        """To stdout; nothing where that is JSON."""
        if not self.in_json:
            put(self.stdout, text)

    def note(self, text: str) -> None:
        """To stderr: what a program that reads stdout does not look for."""
        put(self.stderr, text)

    def print_json(self, told: Any) -> None:
        put(self.stdout, json.dumps(told, indent=2, cls=DjangoJSONEncoder))


def answers_to(missing: list[dict[str, Any]]) -> list[str]:
    """The values that each missing fact can have, ready to be given."""
    return [
        f"{fact['name']}={value}  {meaning}"
        for fact in missing
        for value, meaning in (fact["readings"] or {"…": fact["question"]}).items()
    ]


def _known(error: SaeError | OSError | OperationalError) -> SaeError:
    if isinstance(error, SaeError):
        return error
    if isinstance(error, OperationalError):
        return DataMissing("The database does not answer.", solution="Try again in a moment.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("The disk is full.", solution="Free some space, then try again.")
    why = os.strerror(error.errno or errno.EIO).lower()
    file = f"`{error.filename}`: " if error.filename else ""
    return DataMissing(f"{file}{why}.", solution="Check the path and who may use it.")
