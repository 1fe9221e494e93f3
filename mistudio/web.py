"""The web server: Daphne, which alone keeps in memory whatever a slow client does not read.

Here each piece of a download waits until the connection has taken the pieces before it; and one
that breaks off ends its connection, so that nobody waits for the rest.
"""

import asyncio
from typing import Any, cast

import daphne.server
from daphne.cli import CommandLineInterface
from daphne.http_protocol import WebRequest
from daphne.server import Server

from mistudio import bodies

daphne.server.HTTPFactory = bodies.Requests  # it takes none from others


class Valve:
    """Shut while the connection has as much to send as it likes to hold: a producer of Twisted."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pauseProducing(self) -> None:
        self.open.clear()

    def resumeProducing(self) -> None:
        self.open.set()

    def stopProducing(self) -> None:
        self.open.set()  # the connection is gone: nothing is sent any more, and nobody may wait


def _valve(protocol: Any, message: dict[str, Any]) -> Valve | None:
    """Of an answer that goes on after this piece; the last piece needs to wait for nothing."""
    if protocol.channel is None or protocol.finished:
        return None
    if message.get("more_body"):
        if protocol.producer is None:
            protocol.registerProducer(Valve(), True)
        return cast(Valve, protocol.producer)
    if protocol.producer is not None:
        protocol.unregisterProducer()
    return None


class PatientServer(Server):  # type: ignore[misc]  # ships no types
    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        valve = _valve(protocol, message) if message["type"] == "http.response.body" else None
        await super().handle_reply(protocol, message)
        if valve is not None:
            await valve.open.wait()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if isinstance(protocol, WebRequest):
            bodies.hand_over(protocol, scope)
        queue = super().create_application(protocol, scope)
        work = self.connections.get(protocol, {}).get("application_instance")
        if work is not None and isinstance(protocol, WebRequest):
            work.add_done_callback(lambda done: self._hang_up_if_unfinished(protocol))
        return queue

    def _hang_up_if_unfinished(self, protocol: Any) -> None:
        """Whoever waits for the rest of an answer learns that it does not come."""
        begun = protocol._response_started and not protocol.finished
        if begun and protocol.channel is not None:
            # Daphne would try to begin another answer, and never recover from its refusal.
            self.protocol_disconnected(protocol)
            protocol.channel.transport.abortConnection()


class WebCommand(CommandLineInterface):  # type: ignore[misc]  # ships no types
    server_class = PatientServer


if __name__ == "__main__":
    WebCommand.entrypoint()
