"""`manage.py sae_inspect PATH`: what a folder or file holds, from configs and headers alone."""

import argparse
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from saes import converter
from saes.errors import SaeError, SeveralSaes
from saes.formats import by_slug
from saes.formats.architectures import NOT_PLAIN
from saes.formats.base import SaeInfo
from saes.management.facts import read_facts


class Command(BaseCommand):
    help = "Show what SAE a folder or file holds. No weight is read."
    requires_system_checks: list[str] = []  # Django's own way to say so

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("path", type=Path)
        parser.add_argument("--where", help="the SAE's folder or file, where there are several")
        parser.add_argument("--repo-id", help="the repository it comes from: its name tells facts")
        parser.add_argument("--fact", action="append", default=[], metavar="NAME=VALUE")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            infos = self._infos(options)
        except SaeError as error:
            raise CommandError(f"{error} {error.next_step}") from error
        if options["json"]:
            told = [to_json(info) for info in infos]
            self.stdout.write(json.dumps(told[0] if len(told) == 1 else told, indent=2))
            return
        for info in infos:
            self._show(info)

    def _infos(self, options: dict[str, Any]) -> list[SaeInfo]:
        facts = read_facts(options["fact"])
        try:
            return [self._info(options, options["where"], facts)]
        except SeveralSaes as several:
            return [self._info(options, where, facts) for where in several.found]

    def _info(self, options: dict[str, Any], where: str | None, facts: dict[str, str]) -> SaeInfo:
        return converter.inspect(options["path"], where, options["repo_id"], facts)

    def _show(self, info: SaeInfo) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(f"{info.where}  {by_slug(info.format).label}"))
        for name, fact in sorted(info.facts.items()):
            self.stdout.write(f"  {name:30} {fact.value!s:40} {fact.origin}")
        for spec in info.tensors:
            shape = " x ".join(map(str, spec.shape))
            self.stdout.write(f"  {spec.name:30} {spec.dtype:5} {shape}")
        if reason := NOT_PLAIN.get(info.get("architecture")):
            self.stdout.write(f"  No plain SAE: {reason}.")
        for missing in info.missing:
            self.stdout.write(self.style.WARNING(f"  Missing: {missing.name}. {missing.question}"))
            for value, meaning in missing.readings.items():
                self.stdout.write(f"    --fact {missing.name}={value}  {meaning}")


def to_json(info: SaeInfo) -> dict[str, Any]:
    return {
        "where": info.where,
        "format": info.format,
        "facts": {
            name: {"value": it.value, "origin": it.origin} for name, it in info.facts.items()
        },
        "tensors": [
            {"name": it.name, "dtype": it.dtype, "shape": list(it.shape)} for it in info.tensors
        ],
        "files": list(info.files),
        "missing": [fact.to_json() for fact in info.missing],
    }
