"""`/ws/`: programs subscribe to the work on SAEs and hear, in JSON, of every state it comes to.

    → {"action": "subscribe", "channels": ["sae/{id}/download", "sae/{id}/upload", "sae/*"]}
    ← {"event": "sae:download", "channel": "sae/{id}/download", "data": the present state}
    ← … and the same again for each state that follows
    ← {"event": "sae:deleted", "channel": …, "data": {"sae_id": …}}
    → {"action": "unsubscribe", "channels": […]}
    ← {"event": "error", "channel": … or null, "detail": …, "code": …, "solution": …}

With an `"id"` in it a frame is also acknowledged, before any state: {"event": "subscribed" or
"unsubscribed", "id": …, "channels": [those that were taken or dropped]}.

One task does all reading and sending, so a state can never overtake a later one.
"""

import json
from typing import Any

from channels.db import database_sync_to_async
from django.db import InterfaceError, OperationalError

from saes import events
from saes.consumers import frames
from saes.consumers.frames import EVERY, Channel, HangUp, Inbox, Wish
from saes.consumers.live import LiveConsumer
from saes.consumers.watching import MOST_SUBSCRIPTIONS
from saes.errors import BadRequest, NotFound, SaeError
from saes.models import Sae
from saes.recorder import EVERY_SAE

PAUSE = 0.1  # seconds between two rounds: an SAE is told of ten times a second at most
PER_SECOND = 1000  # frames to one client
MOST_AT_ONCE = 200  # SAEs in one round
MOST_SENT = 256 * 1024  # bytes of answers in one round, roughly
MOST_BAD = 100  # frames that were not understood
AT_REST = (Sae.Status.READY, Sae.Status.ERROR, None)


class EventConsumer(LiveConsumer):
    def __init__(self) -> None:
        super().__init__()
        self.inbox = Inbox()
        self.bad = 0
        self.sent_frames = self.sent_bytes = 0  # of this round

    async def begin(self) -> None:
        # One group for all: a group for each SAE would cost Redis a round trip per subscription.
        await self.join(EVERY_SAE)

    async def explain(self, end: HangUp) -> None:
        await self._complain(None, end.why)

    # --- what comes in: noted here, done by the one task -----------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.ended:
            return
        try:
            self.inbox.put(text_data, bytes_data)
        except HangUp as end:
            await self.hang_up(end)
        self.wake.set()

    async def look_again(self, event: dict[str, Any]) -> None:
        followed = [sae_id for sae_id in event["sae_ids"] if self.watch.topics(sae_id)]
        if followed:
            await super().look_again({**event, "sae_ids": followed})

    # --- one round --------------------------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        return bool(self.inbox) or self.watch.is_due

    async def round(self) -> float:
        self.sent_frames = self.sent_bytes = 0
        while self.inbox and self.sent_bytes < MOST_SENT and not self.ended:
            await self._answer(self.inbox.first())
            self.inbox.drop_first()
        await self._look()
        return max(PAUSE, self.sent_frames / PER_SECOND)

    async def each_minute(self) -> None:
        """A nudge may have been lost, as the row never is."""
        self.watch.look_at_known()
        if self.watch.follows_every_sae:
            self.watch.look_at(await database_sync_to_async(events.at_work)())

    # --- answers ---------------------------------------------------------------------------------

    async def _answer(self, frame: str | None) -> None:
        try:
            wish = frames.parse(frame)
        except BadRequest as error:
            await self._blame(None, error)
            return
        channels = await self._known(wish)
        if wish.action == "subscribe":
            channels = await self._subscribe(channels)
        else:
            for channel in channels:
                self.watch.drop(channel)
        if wish.id is not None:
            done = {"event": f"{wish.action}d", "id": wish.id}
            await self._say({**done, "channels": [str(it) for it in channels]})

    async def _known(self, wish: Wish) -> list[Channel]:
        """The channels whose names are names of channels."""
        known = []
        for name in wish.channels:
            try:
                known.append(Channel.parse(name))
            except BadRequest as error:
                await self._blame(name[:100], error)
        return known

    async def _blame(self, channel: str | None, error: BadRequest) -> None:
        """Raises HangUp for a client that says nothing but nonsense."""
        self.bad += 1
        if self.bad > MOST_BAD:
            raise HangUp(frames.NONSENSE, error)
        await self._complain(channel, error)

    async def _subscribe(self, channels: list[Channel]) -> list[Channel]:
        """Those that were taken."""
        await self.check()
        ids = {channel.sae_id for channel in channels} - {EVERY}
        there = {EVERY, *await database_sync_to_async(events.existing)(ids)}
        known = [channel for channel in channels if channel.sae_id in there]
        taken = [channel for channel in known if self.watch.add(channel)]
        self.watch.look_at(channel.sae_id for channel in taken if channel.sae_id != EVERY)
        if any(channel.sae_id == EVERY for channel in taken):
            self.watch.look_at(await database_sync_to_async(events.at_work)())
        for channel in channels:
            if channel.sae_id not in there:
                await self._complain(str(channel), NotFound("There is no such SAE."))
        if left := len(known) - len(taken):
            await self._complain(None, _full(left))
        return taken

    # --- events ----------------------------------------------------------------------------------

    async def _look(self) -> None:
        ids = self.watch.take_due(MOST_AT_ONCE)
        if not ids or self.ended:
            return
        try:
            states = await database_sync_to_async(events.present)(ids)
        except (OperationalError, InterfaceError):
            self.watch.look_at(ids)
            raise
        for sae_id in ids:
            if sae_id in states:
                await self._tell(sae_id, states[sae_id])
            else:
                await self._tell_deleted(sae_id)

    async def _tell(self, sae_id: str, state: dict[str, dict[str, Any]]) -> None:
        followed = self.watch.topics(sae_id)
        moving = any(it["status"] not in AT_REST for it in state.values())
        self.watch.keep_an_eye(sae_id, moving=moving and bool(followed))
        for channel in followed:
            data = state[channel.topic]
            # Who follows all SAEs hears of what is going on, not of what never was.
            if data["status"] is not None or self.watch.names(channel):
                await self._event(events.TOPICS[channel.topic].event, channel, data)

    async def _tell_deleted(self, sae_id: str) -> None:
        for channel in self.watch.topics(sae_id):
            await self._event("sae:deleted", channel, {"sae_id": sae_id})
        self.watch.drop_sae(sae_id)

    async def _event(self, name: str, channel: Channel, data: dict[str, Any]) -> None:
        text = json.dumps({"event": name, "channel": str(channel), "data": data})
        if self.watch.is_news(channel, text):
            await self._send(text)

    async def _complain(self, channel: str | None, error: SaeError) -> None:
        await self._say({"event": "error", "channel": channel, **error.to_json()})

    async def _say(self, frame: dict[str, Any]) -> None:
        await self._send(json.dumps(frame))

    async def _send(self, text: str) -> None:
        if not self.ended:
            self.sent_frames += 1
            self.sent_bytes += len(text)
            await self.send(text_data=text)


def _full(left: int) -> BadRequest:
    return BadRequest(
        f"A socket has at most {MOST_SUBSCRIPTIONS} subscriptions: {left} were not added.",
        solution="Unsubscribe from some, or subscribe to sae/* instead.",
    )
