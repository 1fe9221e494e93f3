"""`/ws/pages/`: the socket says what a row says now, as the very fragment that pages show.

It carries no deltas: on connect and after a nudge the row is read again.
"""

from collections import deque
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.template.loader import render_to_string

from saes.consumers.frames import NONSENSE, HangUp
from saes.consumers.live import LiveConsumer
from saes.errors import BadRequest
from saes.models import Sae
from saes.recorder import group_of

MOST_WATCHED = 100
PAUSE = 0.2  # seconds between two rounds: a card is drawn five times a second at most


class PageConsumer(LiveConsumer):
    """`/ws/pages/?sae=ID&sae=ID`: fragments of these SAEs' cards."""

    async def begin(self) -> None:
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        named = [sae_id for sae_id in query.get("sae", []) if sae_id.isprintable()]  # no NUL
        watched = list(dict.fromkeys(named))[:MOST_WATCHED]
        existing = await database_sync_to_async(_existing)(watched)
        # Groups first: what changes between the first look and the subscription is not missed.
        for sae_id in existing:
            await self.join(group_of(sae_id))
        self.watch.look_at(existing)
        self.wake.set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.hang_up(HangUp(NONSENSE, BadRequest("Pages say nothing on this socket.")))

    async def round(self) -> float:
        due = deque(self.watch.take_due(MOST_WATCHED))
        try:
            while due and not self.ended:
                await self.room()
                card = await database_sync_to_async(_card)(due[0], self.user)
                if not self.ended:
                    await self.send(text_data=card)
                due.popleft()
        finally:
            self.watch.look_at(due)  # what could not be read or sent
        return PAUSE


def _existing(sae_ids: list[str]) -> list[str]:
    return list(Sae.objects.filter(id__in=sae_ids).values_list("id", flat=True))


def _card(sae_id: str, viewer: User | None) -> str:
    sae = Sae.objects.filter(id=sae_id).first()
    if sae is None:
        return render_to_string("saes/card.html#gone", {"sae_id": sae_id, "oob": True})
    return render_to_string("saes/card.html#card", {"sae": sae, "oob": True, "viewer": viewer})
