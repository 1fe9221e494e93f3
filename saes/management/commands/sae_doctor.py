"""`manage.py sae_doctor`: the data directory against the rows; mending what does not agree."""

import argparse
from collections.abc import Sequence
from typing import Any

from saes import doctor, mounted, services
from saes.doctor import YOURS, Examined, Finding, Outcome
from saes.management.bar import Bar
from saes.management.base import Failed, SaeCommand
from saes.management.tables import counted, table
from saes.templatetags.values import filesize


class Command(SaeCommand):
    help = "Examine the data directory. Nothing is changed without --repair."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--verify", action="store_true", help="read and hash every file again")
        parser.add_argument("--repair", action="store_true", help="mend what can be mended")
        parser.add_argument(
            "--delete-orphans", action="store_true",
            help="with --repair: delete folders without an SAE; else they move to kept/",
        )  # fmt: skip
        parser.add_argument(
            "--adopt", action="store_true",
            help="this is the right data directory, though its mark is gone or another one",
        )  # fmt: skip

    def work(self, options: dict[str, Any]) -> None:
        if options["delete_orphans"] and not options["repair"]:
            raise Failed("--delete-orphans needs --repair.", code=2)
        if options["adopt"]:
            mounted.adopt(services.library())
        bar = Bar(self.stderr)
        try:
            seen = doctor.examine(bar if options["verify"] else None)
        finally:
            bar.close()
        if options["repair"]:
            self._repair(seen, options["delete_orphans"])
        else:
            self._show(seen)

    def _show(self, seen: Examined) -> None:
        if seen.findings:
            self.say(table(("what", ">bytes", "finding"), map(_found, seen.findings)))
            for kind, findings in seen.by_kind().items():
                self.note(f"{kind.label}: {len(findings):,}. {findings[0].repair or YOURS}")
        self._end(seen, seen.findings, seen.findings, "`--repair` mends what can be mended.")

    def _repair(self, seen: Examined, delete_orphans: bool) -> None:
        outcomes = list(doctor.repair(None, seen.findings, delete_orphans=delete_orphans))
        if outcomes:
            self.say(table(("what", ">bytes", "finding", "outcome"), map(_became, outcomes)))
        left = [it.finding for it in outcomes if not it.done]
        self._end(seen, outcomes, left, "What is left is for you to decide, or to try again.")

    def _end(
        self, seen: Examined, told: Sequence[Finding | Outcome], left: list[Finding], advice: str
    ) -> None:
        """Raises Failed where something is left."""
        kept = services.library().kept()
        answer = {
            "findings": [it.to_json() for it in told], "remaining": len(left),
            "saes": seen.saes, "at_work": seen.at_work,
            "kept": [{"folder": f"kept/{it.name}", "size": it.size} for it in kept],
        }  # fmt: skip
        if kept:
            folders = counted(len(kept), "folder")
            self.note(f"kept/ holds {filesize(sum(it.size for it in kept))} in {folders}.")
        if seen.at_work:
            self.note(f"{counted(seen.at_work, 'SAE')} at work: left alone.")
        looked = f"{counted(seen.saes, 'SAE')} looked at"
        if left:
            raise Failed(f"{looked}, {counted(len(left), 'finding')} left. {advice}", answer)
        if self.in_json:
            self.print_json(answer)
        self.say(f"{looked}: all is well.")


def _found(finding: Finding) -> tuple[object, ...]:
    return finding.kind, f"{finding.size:,}", finding.says


def _became(outcome: Outcome) -> tuple[object, ...]:
    return *_found(outcome.finding), outcome.done or f"Not mended: {outcome.why}"
