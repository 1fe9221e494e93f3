"""Whether a client has taken what was sent to it: daphne itself waits for nobody."""

from functools import partial
from typing import Any


def has_backlog(send: Any) -> bool:
    """`send` as the server gave it. False where it is another server's than daphne.

    Daphne hands out `partial(handle_reply, protocol)`. Twisted marks the protocol's transport as
    paused once 64 kB wait in this process, and as not paused when all of them are gone.
    """
    protocol = send.args[0] if isinstance(send, partial) and send.args else None
    return bool(getattr(getattr(protocol, "transport", None), "producerPaused", False))
