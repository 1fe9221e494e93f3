"""Another one-time link, for whoever has a shell on the server."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from saes import accounts


class Command(BaseCommand):
    help = "Print a link that signs in once, within ten minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", nargs="?", default="", help="a user name (default: the owner)")

    def handle(self, *args: Any, user: str, **options: Any) -> None:
        try:
            link = accounts.sign_in_url(_find(user) if user else accounts.ensure_owner())
        except DatabaseError as error:
            raise CommandError("There is no database yet: start miStudio once.") from error
        self.stdout.write(link)


def _find(name: str) -> User:
    try:
        return User.objects.get(username=name, is_active=True)
    except User.DoesNotExist as error:
        raise CommandError(f"There is no active user {name!r}.") from error
