"""Brings an SAE's files to `source/`: only what is missing, and each is checked."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from saes import at_hand, errors, services
from saes.hub import Hub, Listing, RemoteFile
from saes.models import Job, SaeFile
from saes.parts import PartFile, discard, open_part
from saes.progress import Reporter, Stage
from saes.room import reserve
from saes.safe_names import target_in
from saes.storage import Written, link, remove_folder
from saes.transfer import Incoming, Transfer


class Fetching:
    """The files of one SAE on their way."""

    def __init__(
        self, job: Job, hub: Hub, listing: Listing, files: list[RemoteFile], progress: Reporter
    ) -> None:
        self.job, self.hub, self.listing = job, hub, listing
        self.files, self.progress = files, progress
        self.total = sum(file.size for file in files)
        self._here = 0  # bytes of the files that are whole and are not in the present transfer
        self._file = files[0]
        self.rest: list[Incoming] = []
        self._same: list[RemoteFile] = []
        self.was_wrong = False  # what was read while it came cannot be believed

    def begin(self) -> None:
        """Find what is here, set room aside, and fetch the small files, which say what it is.

        Raises what run() raises, and NotNow or DiskFull where there is no room.
        """
        missing = [file for file in self.files if not self._is_here(file)]
        self._here = self.total - sum(file.size for file in missing)
        missing = [file for file in missing if not self._is_at_hand(file)]
        # Of files with the same bytes one comes first: then the others are at hand.
        first = {file.expected.oid: file for file in reversed(missing)}
        self._same = [file for file in missing if first[file.expected.oid] is not file]
        incoming = self._opened([file for file in missing if file not in self._same])
        left = sum(it.file.size - it.part.size for it in incoming)
        reserve(self.job, left + self.total)
        self._bring([it for it in incoming if not _is_large(it)])
        self.rest = [it for it in incoming if _is_large(it)]

    def run(self) -> None:
        """Fetch the rest. Raises HashMismatch where bytes are wrong twice, NotNow, DiskFull …"""
        self._bring(self.rest)
        for file in self._same:
            if not self._is_at_hand(file):
                self._bring(self._opened([file]))
        self.rest = []

    @contextmanager
    def coming(self, over: threading.Event) -> Iterator[Path | None]:
        """A folder that shows all files as if they were there: whoever reads waits for the bytes.

        None where this disk cannot give a file two names. `over` ends the waiting.
        """
        folder = self._parts / "coming"
        remove_folder(folder)
        with ExitStack() as stack:
            stack.callback(remove_folder, folder)
            for it in self.rest:
                stack.enter_context(it.part.announced(over))
            waited_for = {it.file.name: it.part.path for it in self.rest}
            linked = all(
                link(waited_for.get(file.name, self._target(file)), target_in(folder, file.name))
                for file in self.files
            )
            yield folder if linked else None

    def hashes(self) -> dict[str, str]:
        """What the files that are still to come must be."""
        return {it.file.name: it.file.expected.sha256 for it in self.rest}

    def _opened(self, files: list[RemoteFile]) -> list[Incoming]:
        return [Incoming(it, open_part(self._parts, it.expected)) for it in files]

    def _bring(self, incoming: list[Incoming]) -> None:
        wrong = self._transfer(incoming)
        if wrong:
            self.was_wrong = True
            self._here -= sum(file.size for file in wrong)
            self.say("The bytes were wrong; fetching them again")
            if self._transfer(self._opened(wrong)):
                raise _wrong_twice(wrong[0])

    # --- what is here ----------------------------------------------------------------------------

    def _is_here(self, file: RemoteFile) -> bool:
        row = self.job.sae.files.filter(
            path=f"source/{file.name}", verified_against=file.expected.oid
        ).first()
        return row is not None and at_hand.is_intact(row, self.progress)

    def _is_at_hand(self, file: RemoteFile) -> bool:
        """On this machine, under whatever name: then it need not come over the network."""
        tick, target = partial(self._advance, self._here), self._target(file)
        self._file = file
        written = at_hand.take_published(file, target, tick)
        written = written or at_hand.take_twin(self.job.sae, file, target, tick)
        if written is None:
            part = at_hand.take_cached(self._parts, self.listing, file, tick)
            written = self._published(file, part) if part else None
        if written is None:
            return False
        self._record(file, written)
        discard(self._parts, file.expected)
        self._here += file.size
        return True

    # --- what comes ------------------------------------------------------------------------------

    def _transfer(self, incoming: list[Incoming]) -> list[RemoteFile]:
        """Fetch and publish them. Those whose bytes are not the Hub's."""
        wrong = []
        if incoming:
            self._file = incoming[0].file
            self.say("")
        for it in Transfer(self.hub, self.listing, incoming, self).files():
            if written := self._published(it.file, it.part):
                at_hand.share(self.job.sae, written, lambda done: self.check())
                self._record(it.file, written)
            else:
                wrong.append(it.file)
            self._next(incoming)
        self._here += sum(it.file.size for it in incoming)
        return wrong

    def _published(self, file: RemoteFile, part: PartFile) -> Written | None:
        try:
            return part.publish(self._target(file))
        except errors.HashMismatch:
            return None

    def _record(self, file: RemoteFile, written: Written) -> None:
        services.record_file(self.job.sae, SaeFile.Kind.SOURCE, written, file.expected.oid)

    def _next(self, incoming: list[Incoming]) -> None:
        """The file that is shown: the first that is not whole."""
        left = [it.file for it in incoming if not it.is_whole]
        if left and left[0] is not self._file:
            self._file = left[0]
            self.say("")

    @property
    def _parts(self) -> Path:
        return services.library().parts(self.job.sae_id)

    def _target(self, file: RemoteFile) -> Path:
        return target_in(services.library().source(self.job.sae_id), file.name)

    # --- as an Attendant of the transfer ----------------------------------------------------------

    def check(self) -> None:
        self.progress.stop_if_cancelled()

    def tick(self, done: int) -> None:
        self._advance(self._here, done)

    def _advance(self, before: int, done: int) -> None:
        self.progress.advance(before + done, self.total)

    def say(self, why: str) -> None:
        index, count = self.files.index(self._file) + 1, len(self.files)
        self.progress.say(
            Stage.DOWNLOADING, why or "Downloading", file=self._file.name, index=index, count=count
        )


def _is_large(it: Incoming) -> bool:
    """Those that the Hub keeps by sha256; texts are not."""
    return bool(it.file.expected.sha256)


def _wrong_twice(file: RemoteFile) -> errors.HashMismatch:
    return errors.HashMismatch(f"{file.name}: the bytes that came are not those of the Hub, twice.")
