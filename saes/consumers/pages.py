"""Live pages: the socket says what a row says now, as the very fragment that pages show.

It carries no deltas: on connect and at every nudge the row is read again.
"""

from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.models import User
from django.template.loader import render_to_string

from saes.consumers.frames import NONSENSE
from saes.models import Sae
from saes.recorder import group_of

MOST_WATCHED = 100


class PageConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """`/ws/pages/?sae=ID&sae=ID`: fragments of these SAEs' cards."""

    async def connect(self) -> None:
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.close()
            return
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        named = [sae_id for sae_id in query.get("sae", []) if sae_id.isprintable()]  # no NUL
        watched = list(dict.fromkeys(named))[:MOST_WATCHED]
        existing = await database_sync_to_async(_existing)(watched)
        # Groups first: what changes between the first look and the subscription is not missed.
        for sae_id in existing:
            await self.channel_layer.group_add(group_of(sae_id), self.channel_name)
        self.joined, self.user = existing, user
        await self.accept()
        for sae_id in existing:
            await self._send_card(sae_id)

    async def disconnect(self, code: int) -> None:
        for sae_id in getattr(self, "joined", []):
            await self.channel_layer.group_discard(group_of(sae_id), self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.close(NONSENSE)  # pages say nothing on this socket

    async def look_again(self, event: dict[str, Any]) -> None:
        await self._send_card(event["sae_id"])

    async def _send_card(self, sae_id: str) -> None:
        await self.send(text_data=await database_sync_to_async(_card)(sae_id, self.user))


def _existing(sae_ids: list[str]) -> list[str]:
    return list(Sae.objects.filter(id__in=sae_ids).values_list("id", flat=True))


def _card(sae_id: str, viewer: User) -> str:
    sae = Sae.objects.filter(id=sae_id).first()
    if sae is None:
        return render_to_string("saes/card.html#gone", {"sae_id": sae_id, "oob": True})
    return render_to_string("saes/card.html#card", {"sae": sae, "oob": True, "viewer": viewer})
