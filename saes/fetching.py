"""Brings an SAE's files from the Hub to `source/`: only what is missing, and each is checked."""

from dataclasses import dataclass
from functools import partial

from saes import errors, services, transfer
from saes.hub import Hub, Listing, RemoteFile
from saes.models import Job, SaeFile
from saes.progress import Reporter, Stage
from saes.safe_names import target_in


@dataclass
class Fetching:
    """The files of one SAE on their way. `done` counts bytes of the files that are whole."""

    job: Job
    hub: Hub
    listing: Listing
    files: list[RemoteFile]
    progress: Reporter
    done: int = 0

    @property
    def total(self) -> int:
        return sum(file.size for file in self.files)

    def missing(self) -> list[RemoteFile]:
        """Files that are not here whole, with the bytes that were once checked."""
        return [file for file in self.files if not self._is_here(file)]

    def _is_here(self, file: RemoteFile) -> bool:
        sae = self.job.sae
        row = sae.files.filter(
            path=f"source/{file.name}", verified_against=file.expected.oid
        ).first()
        return row is not None and is_intact(row, self.progress)

    def left(self, missing: list[RemoteFile]) -> int:
        """Bytes that are still to come: part files count for what they hold."""
        shelf, sae_id = services.library(), self.job.sae_id
        return sum(file.size - shelf.part_size(sae_id, file.expected) for file in missing)

    def fetch(self, missing: list[RemoteFile]) -> None:
        self.done = self.total - sum(file.size for file in missing)
        for file in missing:
            try:
                self._fetch(file)
            except errors.HashMismatch:
                self._say(file, "The bytes were wrong; fetching them again")
                self._fetch(file)
            self.done += file.size

    def _fetch(self, file: RemoteFile) -> None:
        sae, shelf = self.job.sae, services.library()
        self._say(file, "Downloading")
        with shelf.part(sae.id, file.expected, self._tick) as part:
            self._say(file, "Downloading")  # anew: reading an old part again is no download speed
            wait = partial(self._wait, file)
            transfer.fetch(self.hub, self.listing, file, part, self._tick, wait)
            written = part.publish(target_in(shelf.source(sae.id), file.name))
        services.record_file(sae, SaeFile.Kind.SOURCE, written, file.expected.oid)

    def _tick(self, done: int) -> None:
        self.progress.advance(self.done + done, self.total)

    def _wait(self, file: RemoteFile, seconds: float, why: str) -> None:
        self._say(file, why)
        transfer.pause(seconds, self.progress.stop_if_cancelled)
        self._say(file, "Downloading")

    def _say(self, file: RemoteFile, message: str) -> None:
        index, count = self.files.index(file) + 1, len(self.files)
        self.progress.say(Stage.DOWNLOADING, message, file=file.name, index=index, count=count)


def is_intact(row: SaeFile, progress: Reporter) -> bool:
    """Whether the file on disk still has the bytes that were recorded. Forgets it if not."""
    home = services.library().home(row.sae_id)
    if not home.is_dir():
        raise errors.DataMissing("The SAE's folder is not there; is the data directory mounted?")
    if services.is_as_recorded(row, lambda done: progress.advance(done, row.size)):
        return True
    (home / row.path).unlink(missing_ok=True)
    row.delete()
    return False
