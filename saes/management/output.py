"""Writing to a pipe whose reader may go at any time: `| head` never stops the work."""

import os
from pathlib import Path

from django.core.management.base import OutputWrapper


def put(out: OutputWrapper, text: str, ending: str = "\n") -> None:
    try:
        out.write(text, str, ending)
        out.flush()
    except BrokenPipeError:
        # What is said from now on goes nowhere, what Python flushes at its end included.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), out.fileno())
