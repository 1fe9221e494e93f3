"""Which token of the Hub a command asks with. No argument holds one: everybody can see those."""

import argparse
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User

from saes import accounts, vault
from saes.management.arguments import line, token_from_stdin


def add_token_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--user", type=line, default=accounts.OWNER, help="whose stored Hub token to use"
    )
    parser.add_argument(
        "--token-stdin", action="store_true", help="read a Hub token from standard input instead"
    )


def secret_from(options: dict[str, Any], user: User) -> str | None:
    """A token for this one command; None where the stored one will do."""
    if options["token_stdin"]:
        return token_from_stdin()
    # Before the first start, the server's own token is not stored yet.
    return None if vault.of(user) else settings.HF_TOKEN or None
