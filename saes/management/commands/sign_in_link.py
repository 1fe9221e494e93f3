"""Another one-time link, for whoever has a shell on the server."""

import argparse
from typing import Any

from saes import accounts
from saes.management.arguments import line
from saes.management.base import SaeCommand
from saes.management.finding import user_named


class Command(SaeCommand):
    help = "Print a link that signs in once, within ten minutes."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("user", nargs="?", type=line, default=accounts.OWNER, help="its name")

    def work(self, options: dict[str, Any]) -> None:
        user = user_named(options["user"])
        link = accounts.sign_in_url(user)
        self.say(link)
        if self.in_json:
            self.print_json({"user": user.get_username(), "url": link})
