"""Brings an SAE's files from a folder of this machine to `source/`: copied, or as hard links."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from saes import at_hand, errors, services
from saes.formats import FolderSource
from saes.models import Job, Sae, SaeFile
from saes.parts import refuse_last_bytes
from saes.progress import Reporter, Stage
from saes.room import reserve
from saes.safe_names import target_in
from saes.storage import CHUNK, Tick, Written, disk_errors, link, sha256_of, sync


class Collecting:
    """Killed and called again it goes on after the last file that is whole."""

    def __init__(
        self, job: Job, source: FolderSource, names: Sequence[str], progress: Reporter
    ) -> None:
        self._job, self._source, self._names, self._progress = job, source, names, progress
        self._states = {name: source.state(name) for name in names}
        self._sizes = {name: source.size(name) for name in names}
        self.total, self._done = sum(self._sizes.values()), 0

    def run(self) -> None:
        """Raises SourceChanged, CannotLink, DiskFull, NotNow, Stopped."""
        missing = [name for name in self._names if not self._is_here(name)]
        copied = 0 if self._links else sum(self._sizes[name] for name in missing)
        reserve(self._job, copied + self.total)
        for name in missing:
            with self._unchanged(name):
                written = self._linked(name) if self._links else self._copied(name)
            at_hand.share(self._job.sae, written, lambda done: self._progress.stop_if_cancelled())
            services.record_file(self._job.sae, SaeFile.Kind.SOURCE, written)
            self._done += written.size
        self.refuse_changed()

    def refuse_changed(self) -> None:
        """Raises SourceChanged where any of the files was written to since this began."""
        for name in self._names:
            self._refuse_changed(name)

    def _refuse_changed(self, name: str) -> None:
        if self._source.state(name) != self._states[name]:
            raise errors.SourceChanged(f"`{name}` changed while it was read.")

    def hashes(self) -> dict[str, str]:
        """Of the files as they lie there. Raises SourceChanged, Stopped."""
        reserve(self._job, self.total)
        found, done = {}, 0
        for name in self._names:
            tick = partial(self._advance, done)
            with self._unchanged(name), self._source.open(name) as file:
                found[name] = _hashed(file, tick)
            done += self._sizes[name]
        return found

    @property
    def _links(self) -> bool:
        return self._job.sae.placement == Sae.Placement.LINK

    def _is_here(self, name: str) -> bool:
        row = self._job.sae.files.filter(path=f"source/{name}", size=self._sizes[name]).first()
        here = row is not None and at_hand.is_intact(row, self._progress)
        self._done += self._sizes[name] if here else 0
        return here

    @contextmanager
    def _unchanged(self, name: str) -> Iterator[None]:
        index = self._names.index(name) + 1
        message = "Copying" if self._job.sae.placement == Sae.Placement.COPY else "Reading"
        self._progress.say(
            Stage.COPYING, message, file=name, index=index, count=len(self._names)
        )  # fmt: skip
        yield
        self._refuse_changed(name)

    def _linked(self, name: str) -> Written:
        target = self._target(name)
        with self._source.open(name) as file, disk_errors():
            if not link(self._source.path(name), target):
                raise errors.CannotLink(f"`{name}` lies on another disk than the library.")
            if not os.path.samestat(os.fstat(file.fileno()), target.lstat()):
                target.unlink()  # it was replaced after it was checked
                raise errors.SourceChanged(f"`{name}` changed while it was read.")
        return Written(target, self._sizes[name], sha256_of(target, self._tick))

    def _copied(self, name: str) -> Written:
        target, shelf = self._target(name), services.library()
        part = shelf.parts(self._job.sae_id) / "copying"
        with self._source.open(name) as file, disk_errors():
            part.parent.mkdir(exist_ok=True)
            part.unlink(missing_ok=True)  # of an attempt that was killed
            sha256 = _copy(file, part, self._tick)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.rename(target)
            sync(target.parent)
        return Written(target, self._sizes[name], sha256)

    def _target(self, name: str) -> Path:
        return target_in(services.library().source(self._job.sae_id), name)

    @property
    def _tick(self) -> Tick:
        return partial(self._advance, self._done)

    def _advance(self, before: int, done: int) -> None:
        self._progress.advance(before + done, self.total)


def _chunks(file: IO[bytes], tick: Tick) -> Iterator[bytes]:
    done = 0
    while chunk := file.read(CHUNK):
        yield chunk
        done += len(chunk)
        tick(done)


def _hashed(file: IO[bytes], tick: Tick) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(file, tick):
        digest.update(chunk)
    return digest.hexdigest()


def _copy(file: IO[bytes], part: Path, tick: Tick) -> str:
    """The hash of what was written, and flushed to the disk."""
    digest = hashlib.sha256()
    with part.open("xb") as out:
        for chunk in _chunks(file, tick):
            refuse_last_bytes(out.fileno(), len(chunk))
            out.write(chunk)
            digest.update(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
