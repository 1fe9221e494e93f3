"""What one socket of a program watches, what it is to be told, and what it was told last."""

from collections.abc import Iterable

from saes.consumers.frames import EVERY, Channel
from saes.events import TOPICS

MOST_SUBSCRIPTIONS = 1000
MOST_REMEMBERED = 10_000  # channels; of one that is forgotten a state may be told twice


class Watch:
    def __init__(self) -> None:
        self._followed: set[Channel] = set()
        self._due: dict[str, None] = {}  # in order, each once: however many nudges, one look
        self._told: dict[Channel, int] = {}
        self._moving: set[str] = set()

    # --- subscriptions ---------------------------------------------------------------------------

    def add(self, channel: Channel) -> bool:
        """False where the socket has as many as it may. Its present state counts as untold."""
        if channel not in self._followed and len(self._followed) >= MOST_SUBSCRIPTIONS:
            return False
        self._followed.add(channel)
        self._forget(channel)
        return True

    def _forget(self, pattern: Channel) -> None:
        if pattern.sae_id != EVERY:
            for topic in TOPICS if pattern.topic == EVERY else (pattern.topic,):
                self._told.pop(Channel(pattern.sae_id, topic), None)
            return
        for channel in list(self._told):
            if pattern.topic in (EVERY, channel.topic):
                del self._told[channel]

    def drop(self, channel: Channel) -> None:
        self._followed.discard(channel)

    def drop_sae(self, sae_id: str) -> None:
        """It was deleted: nothing more will come."""
        self._followed -= {Channel(sae_id, topic) for topic in (*TOPICS, EVERY)}
        self._moving.discard(sae_id)

    def follows(self, channel: Channel) -> bool:
        sae_id, topic = channel
        every_sae = {Channel(EVERY, topic), Channel(EVERY, EVERY)}
        return self.names(channel) or not every_sae.isdisjoint(self._followed)

    def names(self, channel: Channel) -> bool:
        """Subscribed to by its id, not only as one of all."""
        sae_id, topic = channel
        return not {channel, Channel(sae_id, EVERY)}.isdisjoint(self._followed)

    def topics(self, sae_id: str) -> list[Channel]:
        """The channels of this SAE that are followed."""
        channels = (Channel(sae_id, topic) for topic in TOPICS)
        return [channel for channel in channels if self.follows(channel)]

    @property
    def follows_every_sae(self) -> bool:
        return any(channel.sae_id == EVERY for channel in self._followed)

    # --- what is due -----------------------------------------------------------------------------

    def look_at(self, sae_ids: Iterable[str]) -> None:
        self._due.update(dict.fromkeys(sae_ids))

    def look_at_known(self) -> None:
        """What is followed by its id, and what was at work when it was told of last."""
        self.look_at({channel.sae_id for channel in self._followed} - {EVERY})
        self.look_at(self._moving)

    def take_due(self, most: int) -> list[str]:
        taken = list(self._due)[:most]
        for sae_id in taken:
            del self._due[sae_id]
        return taken

    @property
    def is_due(self) -> bool:
        return bool(self._due)

    # --- what was told ---------------------------------------------------------------------------

    def is_news(self, channel: Channel, text: str) -> bool:
        """Whether this is another state than the last; from then on it is the last."""
        mark = hash(text)
        if self._told.pop(channel, None) == mark:
            self._told[channel] = mark
            return False
        self._told[channel] = mark
        if len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]
        return True

    def keep_an_eye(self, sae_id: str, *, moving: bool) -> None:
        """On SAEs that are at work: they are looked at again although nobody nudges."""
        if moving:
            self._moving.add(sae_id)
        else:
            self._moving.discard(sae_id)
