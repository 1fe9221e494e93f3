"""Brings files of the Hub to disk: several, and pieces of large ones, over a few connections.

The connections are threads that only fetch and write. Whoever runs the transfer attends to it: it
tells where it is, hears a cancel, and takes each file as soon as it is whole.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import httpx2

from saes import errors
from saes.hub import Hub, Listing, RemoteFile, exact, gathered, hang_up
from saes.parts import PartFile, Piece
from saes.patience import ATTEMPTS, TRANSIENT, WORTH_A_WORD, Watch, pause_after, wait
from saes.progress import STEP
from saes.storage import FLUSH_EVERY

CONNECTIONS = 4


class Attendant(Watch, Protocol):
    def tick(self, done: int) -> None:
        """Bytes of the files that are there. Raises Stopped."""


@dataclass
class Incoming:
    """A file on its way. `url`: where its bytes lie, as long as that is good."""

    file: RemoteFile
    part: PartFile
    url: str = ""
    asking: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_whole(self) -> bool:
        return self.part.hashed == self.file.size


@dataclass
class Line:
    """One connection, at one piece of a file."""

    incoming: Incoming
    piece: Piece
    answer: httpx2.Response | None = None

    def hang_up(self) -> None:
        if self.answer is not None:
            hang_up(self.answer)


class Transfer:
    def __init__(
        self, hub: Hub, listing: Listing, incoming: Sequence[Incoming], attendant: Attendant
    ) -> None:
        self._hub, self._listing, self._attendant = hub, listing, attendant
        self._waiting = list(incoming)
        self._all = [it.part for it in incoming]
        self._todo = deque((it, piece) for it in incoming for piece in _end_first(it.part))
        self._lines: dict[Future[None], Line] = {}
        self._over = threading.Event()
        self._fruitless, self._before = 0, self.done
        self._silence = Silence()

    @property
    def done(self) -> int:
        return sum(part.size for part in self._all)

    def files(self) -> Iterator[Incoming]:
        """Each file once it is whole and hashed: publish it. Raises NotNow, Stopped, SaeError."""
        pool = ThreadPoolExecutor(CONNECTIONS + 1)
        hashing = pool.submit(self._hash)
        try:
            while self._waiting:
                self._begin(pool)
                futures.wait([*self._lines, hashing], STEP, futures.FIRST_COMPLETED)
                self.check()
                self._collect()
                if hashing.done():
                    hashing.result()
                yield from self._whole()
        finally:
            self._let_go(pool)

    # --- what the attendant's thread does --------------------------------------------------------

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        while self._todo and len(self._lines) < CONNECTIONS:
            line = Line(*self._todo.popleft())
            self._lines[pool.submit(self._fetch, line)] = line

    def check(self) -> None:
        """Also while something is waited for: the other connections go on."""
        self._attendant.tick(self.done)
        why = self._silence.heard(self.done)
        if self._lines and why is not None:  # without one the rest is only being hashed
            self._attendant.say(why)

    def say(self, why: str) -> None:
        self._attendant.say(why)

    def _collect(self) -> None:
        troubles = [it for it in map(self._ended, self._over_lines()) if it]
        if not troubles:
            return
        self._fruitless = 1 if self.done > self._before else self._fruitless + 1
        self._before = self.done
        if self._fruitless >= ATTEMPTS:
            raise _given_up(troubles[0])
        wait(*max(pause_after(it, self._fruitless) for it in troubles), self)

    def _over_lines(self) -> list[Future[None]]:
        return [future for future in self._lines if future.done()]

    def _ended(self, future: Future[None]) -> Exception | None:
        """What asking again may mend. Raises what it cannot."""
        line = self._lines.pop(future)
        try:
            future.result()
        except TRANSIENT as error:
            it = line.incoming
            it.url = ""  # a signed URL may have expired
            left = [piece for piece in it.part.missing() if piece.number == line.piece.number]
            self._todo.extendleft((it, piece) for piece in left)
            return error
        return None

    def _whole(self) -> Iterator[Incoming]:
        for it in [it for it in self._waiting if it.is_whole]:
            self._waiting.remove(it)
            yield it

    def _let_go(self, pool: ThreadPoolExecutor) -> None:
        """Threads that wait for an answer end by themselves; they write nothing more."""
        self._over.set()
        for line in self._lines.values():
            line.hang_up()
        pool.shutdown(wait=False, cancel_futures=True)
        futures.wait(self._lines, 1.0)

    # --- what the other threads do ---------------------------------------------------------------

    def _fetch(self, line: Line) -> None:
        it, piece = line.incoming, line.piece
        with self._hub.body(self._url(it), piece.start, piece.stop) as answer:
            line.answer = answer
            for chunk in gathered(exact(answer, piece.stop - piece.start)):
                if self._over.is_set():
                    return
                it.part.write(piece.number, chunk)

    def _url(self, it: Incoming) -> str:
        with it.asking:
            if not it.url:
                it.url = self._hub.locate(self._listing, it.file)
            return it.url

    def _hash(self) -> None:
        """Behind the connections, in the order of the files, as theirs is."""
        for part in self._all:
            flushed = 0
            while part.hashed < part.expected.size and not self._over.is_set():
                if not part.hash_some():
                    self._over.wait(STEP / 5)
                if part.hashed - flushed >= FLUSH_EVERY:
                    part.flush()
                    flushed = part.hashed


class Silence:
    """How long nothing has come."""

    def __init__(self) -> None:
        self._done, self._since, self._told = -1, time.monotonic(), 0

    def heard(self, done: int) -> str | None:
        """What to say, each second once, and nothing when it is over; None: no news."""
        now = time.monotonic()
        if done != self._done:
            was_told = self._told
            self._done, self._since, self._told = done, now, 0
            return "" if was_told else None
        seconds = int(now - self._since)
        if seconds < WORTH_A_WORD or seconds == self._told:
            return None
        self._told = seconds
        return f"No byte for {seconds} s"


def _end_first(part: PartFile) -> list[Piece]:
    """Directories of zips are at the end, and often the biases: who reads along needs them soon."""
    return sorted(part.missing(), key=lambda piece: piece.stop < part.expected.size)


def _given_up(error: Exception) -> errors.SaeError:
    if isinstance(error, errors.SaeError):
        return error
    what = str(error)
    return errors.HubUnreachable(
        f"{what[:1].upper()}{what[1:]}, {ATTEMPTS} times in a row.",
        solution="What came so far is kept; retry when the network is better.",
    )
