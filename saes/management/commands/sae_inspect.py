"""`manage.py sae_inspect PATH`: what a folder or file holds, from configs and headers alone."""

import argparse
from pathlib import Path
from typing import Any

from saes import converter
from saes.errors import SeveralSaes
from saes.formats import by_slug
from saes.formats.architectures import NOT_PLAIN
from saes.formats.base import SaeInfo
from saes.management.arguments import line, named_value, place
from saes.management.base import SaeCommand
from saes.management.tables import plain


class Command(SaeCommand):
    help = "Show what SAE a folder or file holds. No weight is read."
    needs_database = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("path", type=Path)
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
        infos = _infos(options)
        if self.in_json:
            told = [to_json(info) for info in infos]
            self.print_json(told[0] if len(told) == 1 else told)
            return
        for info in infos:
            self._show(info)

    def _show(self, info: SaeInfo) -> None:
        heading = f"{plain(info.where)}  {by_slug(info.format).label}"
        self.say(self.style.MIGRATE_HEADING(heading))
        for name, fact in sorted(info.facts.items()):
            self.say(f"  {name:30} {plain(str(fact.value)):40} {fact.origin}")
        for spec in info.tensors:
            shape = " x ".join(map(str, spec.shape))
            self.say(f"  {plain(spec.name):30} {spec.dtype:5} {shape}")
        if reason := NOT_PLAIN.get(info.get("architecture")):
            self.say(f"  No plain SAE: {reason}.")
        for missing in info.missing:
            self.say(self.style.WARNING(f"  Missing: {missing.name}. {missing.question}"))
            for value, meaning in missing.readings.items():
                self.say(f"    --fact {missing.name}={value}  {meaning}")


def _infos(options: dict[str, Any]) -> list[SaeInfo]:
    try:
        return [_info(options, options["where"])]
    except SeveralSaes as several:
        return [_info(options, where) for where in several.found]


def _info(options: dict[str, Any], where: str | None) -> SaeInfo:
    return converter.inspect(options["path"], where, options["repo_id"], dict(options["fact"]))


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
