"""`manage.py create_api_token`: a token for a program, alone on the last line of stdout."""

import argparse
from datetime import timedelta
from typing import Any

from django.utils import timezone

from saes import accounts, api_tokens
from saes.management.arguments import line, whole
from saes.management.base import SaeCommand
from saes.management.finding import user_named
from saes.models import ApiToken


class Command(SaeCommand):
    help = "Make an API token. It is printed this once, and only its hash is kept."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--user", type=line, default=accounts.OWNER, help="whom it lets in")
        parser.add_argument(
            "--scope", choices=ApiToken.Scope.values, default=ApiToken.Scope.WRITE.value,
            help="write includes read (default: read)",
        )  # fmt: skip
        parser.add_argument(
            "--name", type=_name, default="command line", help="to tell it from others"
        )
        parser.add_argument(
            "--expires-in", type=whole(1, 36_500), metavar="DAYS", help="default: never"
        )

    def work(self, options: dict[str, Any]) -> None:
        days = options["expires_in"]
        end = timezone.now() + timedelta(days=days) if days else None
        user = user_named(options["user"])
        row, token = api_tokens.create(user, options["name"], options["scope"], end)
        if self.in_json:
            names = ("id", "name", "scope", "created_at", "expires_at")
            told = {name: getattr(row, name) for name in names}
            self.print_json({"token": token, "user": user.get_username(), **told})
            return
        rights = row.get_scope_display().lower()
        until = f" until {end:%Y-%m-%d %H:%M} UTC" if end else ""
        self.note(f"A token of {user.get_username()} ({rights}){until}. It is shown this once:")
        self.say(token)


def _name(word: str) -> str:
    if not 0 < len(word.strip()) <= 100:
        raise argparse.ArgumentTypeError("it has to be from 1 to 100 characters.")
    return line(word).strip()
