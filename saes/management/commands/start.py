"""Start everything, and print where to go."""

import os
import sys
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError, connection

from mistudio import env
from mistudio.launch import Plan, launch
from mistudio.preflight import CannotStart
from saes import accounts, vault
from saes.management import database


class Command(BaseCommand):
    help = "Start the web process, the workers and their queue; Ctrl-C stops them all."
    # `make check` does them; here they would load every view.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", help=f"the address to listen on ({settings.HOST})")
        parser.add_argument("--port", help=f"the port to listen on ({settings.PORT})")
        parser.add_argument("--workers", help=f"how many jobs run at a time ({settings.WORKERS})")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            _apply(options)
            launch(_plan(), self._say)
        except (CannotStart, env.BadVariable) as error:
            sys.exit(f"miStudio cannot start: {error}")

    def _say(self, line: str) -> None:
        with suppress(BrokenPipeError):  # whoever read along has gone; the work goes on
            self.stdout.write(line)
            self.stdout.flush()


def _apply(options: dict[str, Any]) -> None:
    """An option stands for its variable, here and in every child."""
    for name in ("HOST", "PORT", "WORKERS"):
        if options[name.lower()] is not None:
            os.environ[f"MISTUDIO_{name}"] = options[name.lower()]
            os.environ.pop(f"MISTUDIO_{name}_FILE", None)
    settings.HOST = env.text("MISTUDIO_HOST", settings.HOST).strip("[]")
    settings.PORT = env.number("MISTUDIO_PORT", settings.PORT, 1, 65535)
    settings.WORKERS = env.number("MISTUDIO_WORKERS", settings.WORKERS, 1, 64)


def _plan() -> Plan:
    return Plan(
        host=settings.HOST,
        port=settings.PORT,
        workers=settings.WORKERS,
        data_dir=settings.DATA_DIR,
        external_redis=settings.EXTERNAL_REDIS_URL,
        prepare=_prepare,
        greeting=_greeting,
    )


def _prepare() -> None:
    try:
        connection.ensure_connection()
    except OperationalError as error:
        raise CannotStart("MISTUDIO_DATABASE_URL: the database cannot be reached.") from error
    database.bring_up_to_date()
    accounts.ensure_owner()
    vault.take_server_token(settings.HF_TOKEN)
    connection.close()


def _greeting() -> str:
    lines = [
        f"miStudio runs at {accounts.base_url()}",
        f"Sign in: {accounts.sign_in_url(accounts.ensure_owner())}",
        "The link is good for ten minutes and one use; `manage.py sign_in_link` prints another.",
        f"Everything is kept in {settings.DATA_DIR}. Ctrl-C stops miStudio.",
    ]
    connection.close()
    return "\n".join(lines)
