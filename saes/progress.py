"""How long work tells where it is: a Reporter, and one that says nothing."""

from enum import StrEnum
from typing import Protocol

STEP = 0.1  # seconds: how long whoever waits may be deaf to a cancel


class Stage(StrEnum):
    """The stages of bringing an SAE into the library, and of publishing it."""

    LOOKING = "looking"
    DOWNLOADING = "downloading"
    COPYING = "copying"
    CONVERTING = "converting"
    UPLOADING = "uploading"
    VERIFYING = "verifying"


class Resource(StrEnum):
    """What a job may have to wait for."""

    HUB = "hub"
    DISK = "disk"


class Stopped(Exception):
    """The work is no longer wanted: cancelled, deleted, or taken over by another worker."""


class NotNow(Exception):
    """The work cannot go on now. Whoever does it makes room for other work meanwhile."""

    def __init__(self, why: str, resource: Resource, seconds: float) -> None:
        super().__init__(why)
        self.resource, self.seconds = resource, seconds


class Reporter(Protocol):
    def say(
        self, stage: Stage, message: str, *, file: str = "", index: int = 0, count: int = 0
    ) -> None:
        """A new stage, or a new file within one (file `index` of `count`, from 1)."""

    def advance(self, done: int, total: int) -> None:
        """Bytes of the present stage. Raises Stopped when the work is no longer wanted."""

    def stop_if_cancelled(self) -> None:
        """Raises Stopped when the work is no longer wanted."""


class Silent:
    """For scripts, notebooks and tests."""

    def say(
        self, stage: Stage, message: str, *, file: str = "", index: int = 0, count: int = 0
    ) -> None:
        pass

    def advance(self, done: int, total: int) -> None:
        pass

    def stop_if_cancelled(self) -> None:
        pass
