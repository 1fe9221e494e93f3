"""What all sockets share: who is let in and stays, how many, and one task that does all sending.

The task works in rounds. Nudges only say "look again": however many there are, an SAE is read at
most once in a round, and not at all while the client has not taken what was sent before.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError

from saes.consumers import frames
from saes.consumers.backlog import has_backlog
from saes.consumers.frames import HangUp
from saes.consumers.visitors import MOST_SOCKETS, SEATS, identify
from saes.consumers.watching import Watch
from saes.errors import BadApiToken, NotSignedIn, RateLimited

BREATH = 0.1  # seconds between two looks whether a client has taken what was sent
CHECK_EVERY = 60.0  # seconds: whoever was locked out hears nothing after that
PATIENCE = 60.0  # seconds for a client to take what was sent
BUSY = 1.0  # seconds to wait for a database that cannot be asked


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch()
        self.wake = asyncio.Event()
        self.user: User | None = None
        self.ended = False
        self.joined: list[str] = []
        self.checked_at = time.monotonic()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """However the socket ends, its seat is free again."""
        self.wire = send
        try:
            async with asyncio.TaskGroup() as tasks:
                speaker = tasks.create_task(self._speak())
                await super().__call__(scope, receive, send)
                speaker.cancel()
        finally:
            if self.user:
                SEATS.leave(self.user.pk)

    # --- what each kind of socket does ------------------------------------------------------------

    async def begin(self) -> None:
        """Join groups, once the visitor has a seat."""

    @property
    def is_due(self) -> bool:
        """Whether there is something to do."""
        return self.watch.is_due

    async def round(self) -> float:
        """Do it; the seconds until the next round."""
        raise NotImplementedError

    async def each_minute(self) -> None:
        """After the visitor was checked again."""

    async def explain(self, end: HangUp) -> None:
        """The last word before the socket is closed."""

    # --- coming and going -------------------------------------------------------------------------

    async def connect(self) -> None:
        try:
            user = await database_sync_to_async(identify)(self.scope)
        except (BadApiToken, NotSignedIn):
            await self.close()
            return
        await self.accept()
        if not SEATS.take(user.pk):
            error = RateLimited(
                f"{MOST_SOCKETS} sockets of yours are open.", solution="Close one of them."
            )
            await self.hang_up(HangUp(frames.TOO_MANY, error))
            return
        self.user = user
        await self.begin()

    async def join(self, group: str) -> None:
        self.joined.append(group)
        await self.channel_layer.group_add(group, self.channel_name)

    async def disconnect(self, code: int) -> None:
        self.ended = True
        for group in self.joined:
            await self.channel_layer.group_discard(group, self.channel_name)

    async def hang_up(self, end: HangUp) -> None:
        if not self.ended:
            await self.explain(end)
            self.ended = True
            await self.close(end.code)

    async def look_again(self, event: dict[str, Any]) -> None:
        if not self.ended:
            self.watch.look_at(event["sae_ids"])
            self.wake.set()

    # --- the one task that reads and sends --------------------------------------------------------

    async def _speak(self) -> None:
        while not self.ended:
            pause = BUSY
            try:
                await self._need()
                await self.room()
                if time.monotonic() - self.checked_at >= CHECK_EVERY:
                    await self.check()
                    await self.each_minute()
                pause = await self.round()
            except (OperationalError, InterfaceError):
                self.wake.set()  # what was to be done is still there
            except HangUp as end:
                await self.hang_up(end)
            await asyncio.sleep(pause)

    async def _need(self) -> None:
        """Until there is something to do, or the visitor is to be checked again."""
        if not self.is_due:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.checked_at + CHECK_EVERY - time.monotonic()):
                    await self.wake.wait()
        self.wake.clear()

    async def room(self) -> None:
        """Until the client has taken what it was sent. Raises HangUp."""
        limit = time.monotonic() + PATIENCE
        while has_backlog(self.wire):
            if time.monotonic() > limit:
                error = RateLimited("You take events too slowly.", solution="Connect again.")
                raise HangUp(frames.NOT_TAKEN, error)
            await asyncio.sleep(BREATH)

    async def check(self) -> None:
        """Whoever was let in may have been locked out, or have another role. Raises HangUp."""
        try:
            self.user = await database_sync_to_async(identify)(self.scope)
        except (BadApiToken, NotSignedIn) as error:
            raise HangUp(frames.NOT_KNOWN, error) from error
        self.checked_at = time.monotonic()
