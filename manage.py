#!/usr/bin/env python
"""Entry point of every command; a bad environment variable ends it with one sentence."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mistudio.settings")
    from mistudio.env import BadVariable

    try:
        import mistudio.settings  # noqa: F401  read first: Django would hide the sentence
    except BadVariable as error:
        sys.exit(f"miStudio cannot start: {error}")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
