"""An SAE is written, compared with its source and hashed, all at once.

The source may still be on its way: each of the three waits for the bytes that it wants
(growing.py), so that little is left to do when the last of them have come.
"""

import os
import threading
import time
from collections.abc import Mapping
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from saes import converter, growing
from saes.certificate import Certificate
from saes.formats import FolderSource
from saes.formats.base import Given
from saes.progress import STEP, Reporter, Stage, Stopped
from saes.storage import FLUSH_EVERY, Written, disk_errors, sha256_of


@dataclass(frozen=True)
class Order:
    """One SAE in `source`, and what is known of it."""

    source: FolderSource | Path
    where: str
    repo_id: str
    facts: Given
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    certificate: Certificate
    files: list[Written]


class Making:
    """Use it as a context: what is not finished when that ends is given up."""

    def __init__(self, order: Order, draft: Path, over: threading.Event) -> None:
        self._order, self._draft, self._over = order, draft, over
        self._pool = ThreadPoolExecutor(3)
        self._written, self._compared = Relay(over), Relay(over)

    def __enter__(self) -> Self:
        self._writing = self._pool.submit(self._write)
        self._comparing = self._pool.submit(self._compare)
        self._hashing = self._pool.submit(self._hash)
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._pool.shutdown(wait=True)

    def result(self, progress: Reporter) -> Made:
        """Raises what went wrong, and Stopped."""
        message = "Converting to the miStudio form"
        self._attend(self._writing, self._written, progress, Stage.CONVERTING, message)
        message = "Comparing the written SAE with its source"
        self._attend(self._comparing, self._compared, progress, Stage.VERIFYING, message)
        return Made(self._comparing.result(), self._hashing.result())

    def _attend(
        self, work: Future[Any], relay: "Relay", progress: Reporter, stage: Stage, message: str
    ) -> None:
        progress.say(stage, message)
        while not futures.wait([work], STEP).done:
            progress.stop_if_cancelled()
            if relay.total:
                progress.advance(relay.done, relay.total)
        work.result()

    # --- the three -------------------------------------------------------------------------------

    def _write(self) -> list[Path]:
        it = self._order
        with disk_errors():
            done = converter.convert(
                it.source, self._draft, "mistudio", it.where, it.repo_id, it.facts,
                certify=False, progress=self._written, provenance=it.provenance,
            )  # fmt: skip
        return done.paths

    def _compare(self) -> Certificate:
        it = self._order
        self._wait_for_weights()
        return converter.certify(
            it.source, it.where, self._draft, it.repo_id, it.facts, self._compared
        )

    def _hash(self) -> list[Written]:
        weights = self._wait_for_weights()
        digests = {weights: hashed_and_flushed(weights)}
        others = (path for path in self._writing.result() if path != weights)
        digests |= {path: sha256_of(path) for path in others}
        return [Written(path, path.stat().st_size, it) for path, it in sorted(digests.items())]

    def _wait_for_weights(self) -> Path:
        """Until the file is there; its bytes may still come. Raises Stopped."""
        while True:
            found = [it for it in self._draft.glob("*.safetensors") if growing.is_known(it)]
            if not found and self._writing.done():
                if self._writing.exception():
                    raise Stopped
                found = list(self._draft.glob("*.safetensors"))
            if found:
                return found[0]
            time.sleep(growing.LOOK_EVERY)


def hashed_and_flushed(path: Path) -> str:
    """The hash of a file that may still grow; what was hashed goes to the disk meanwhile."""
    descriptor, flushed = os.open(path, os.O_RDONLY), 0

    def tick(done: int) -> None:
        nonlocal flushed
        if done - flushed >= FLUSH_EVERY:
            os.fdatasync(descriptor)
            flushed = done

    try:
        with disk_errors():
            return sha256_of(path, tick)
    finally:
        os.close(descriptor)


class Relay:
    """The Reporter of one of the three: whoever attends to them reads it."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over
        self.done = self.total = 0

    def say(
        self, stage: Stage, message: str, *, file: str = "", index: int = 0, count: int = 0
    ) -> None:
        self.stop_if_cancelled()

    def advance(self, done: int, total: int) -> None:
        self.stop_if_cancelled()
        self.done, self.total = done, total

    def stop_if_cancelled(self) -> None:
        if self._over.is_set():
            raise Stopped
