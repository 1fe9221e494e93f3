"""`manage.py sae_rotate_vault`: a new key for the Hub tokens that are stored."""

from dataclasses import asdict
from typing import Any

from saes import vault_keys
from saes.management.base import SaeCommand
from saes.management.tables import counted


class Command(SaeCommand):
    help = "Encrypt all stored Hub tokens with a new key. It may be run while miStudio works."

    def work(self, options: dict[str, Any]) -> None:
        done = vault_keys.rotate()
        if self.in_json:
            self.print_json(asdict(done))
            return
        self.say(f"{counted(done.encrypted, 'token')} encrypted with a new key.")
        if done.unreadable:
            self.note(
                f"{counted(done.unreadable, 'token')} could not be read before either, and stayed: "
                "remove and add them on the page Hub tokens."
            )
