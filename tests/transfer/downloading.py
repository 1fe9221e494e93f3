"""Files of a local hub on their way to disk, and an attendant that keeps all that it was told."""

import time
from pathlib import Path

from saes.hub import Hub, RepoRef
from saes.parts import open_part
from saes.progress import Stopped
from saes.storage import Library
from saes.transfer import Incoming, Transfer
from tests.hub import LocalHub

REPO = "alice/pieces"
ID = "sae_0123456789ab"


class Arriving:
    """All files of a repository. `stop_at`: after so many bytes nobody wants them any more."""

    def __init__(self, hub: LocalHub, folder: Path, client: Hub | None = None) -> None:
        self.client = client or Hub(hub.url)
        self.listing = self.client.listing(*self.client.resolve(RepoRef(REPO)))
        self.shelf = Library(folder)
        self.shelf.open_home(ID)
        self.said: list[str] = []
        self.seen: list[int] = []
        self.longest_silence, self._heard = 0.0, time.monotonic()
        self.stop_at: float = float("inf")
        self.stopped_after = 0.0

    def run(self) -> list[Path]:
        """Where they lie, in the order in which they became whole."""
        parts = self.shelf.parts(ID)
        incoming = [
            Incoming(it, open_part(parts, it.expected)) for it in self.listing.files.values()
        ]
        transfer = Transfer(self.client, self.listing, incoming, self)
        source = self.shelf.source(ID)
        return [it.part.publish(source / it.file.name).path for it in transfer.files()]

    def stop(self) -> None:
        """Run until `stop_at`, and note how long it then takes to end."""
        try:
            self.run()
        except Stopped:
            self.stopped_after = time.monotonic() - self.stopped_after
            return
        raise AssertionError("it was whole before it could be stopped")

    @property
    def there(self) -> int:
        """Bytes that the records of the part files say are there."""
        folder = self.shelf.parts(ID)
        return sum(open_part(folder, it.expected).size for it in self.listing.files.values())

    @property
    def waits(self) -> list[str]:
        return [why for why in self.said if why]

    def check(self) -> None:
        if self.seen and self.seen[-1] >= self.stop_at:
            self.stopped_after = self.stopped_after or time.monotonic()
            raise Stopped

    def tick(self, done: int) -> None:
        now = time.monotonic()
        if not self.seen or done > self.seen[-1]:
            silence, self._heard = now - self._heard, now
            self.longest_silence = max(self.longest_silence, silence)
        self.seen.append(done)
        self.check()

    def say(self, why: str) -> None:
        self.said.append(why)
