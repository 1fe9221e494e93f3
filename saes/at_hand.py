"""Bytes that this machine has already: in their place, in another SAE, or in the Hub's own cache.

Large files with the same sha256 are stored once, under several names (hard links): deleting one SAE
leaves the others theirs. Published files are never written to, so that no name can change another.
"""

from collections.abc import Iterator
from pathlib import Path

from saes import services
from saes.errors import DataMissing
from saes.hub import Listing, RemoteFile, in_cache
from saes.models import WORTH_SHARING, Sae, SaeFile
from saes.parts import PartFile, open_part
from saes.progress import Reporter
from saes.storage import CHUNK, Tick, Written, disk_errors, link, sha256_of


def is_intact(row: SaeFile, progress: Reporter) -> bool:
    """Whether the file on disk still has the bytes that were recorded. Forgets it if not."""
    home = services.library().home(row.sae_id)
    if not home.is_dir():
        raise DataMissing("The SAE's folder is not there; is the data directory mounted?")
    if services.is_as_recorded(row, lambda done: progress.advance(done, row.size)):
        return True
    (home / row.path).unlink(missing_ok=True)
    row.delete()
    return False


def take_published(file: RemoteFile, target: Path, tick: Tick) -> Written | None:
    """A file that is in its place already: its process was killed before it was recorded."""
    sha256, is_link = file.expected.sha256, target.is_symlink()
    if is_link or not target.is_file() or target.stat().st_size != file.size:
        return None
    return Written(target, file.size, sha256) if sha256_of(target, tick) == sha256 else None


def take_twin(sae: Sae, file: RemoteFile, target: Path, tick: Tick) -> Written | None:
    """The same bytes of another SAE, if they are still as they were recorded."""
    sha256 = file.expected.sha256
    for row in _twins(sae, sha256, file.size):
        if services.is_as_recorded(row, tick) and link(_path(row), target):
            return Written(target, file.size, sha256)
    return None


def share(sae: Sae, written: Written, tick: Tick = lambda done: None) -> None:
    """Let a new file be another name of one that has the same bytes already. May raise Stopped."""
    for row in _twins(sae, written.sha256, written.size):
        if written.path.samefile(_path(row)):
            return
        if services.is_as_recorded(row, tick) and link(_path(row), written.path):
            return


def _twins(sae: Sae, sha256: str, size: int) -> Iterator[SaeFile]:
    if not sha256 or size < WORTH_SHARING:
        return
    # Whoever was linked from outside may be written to there, in place.
    own = SaeFile.objects.exclude(kind=SaeFile.Kind.SOURCE, sae__placement=Sae.Placement.LINK)
    rows = own.filter(sha256=sha256, size=size).order_by("id")
    yield from (row for row in rows[:10] if _path(row).is_file() and not _path(row).is_symlink())


def _path(row: SaeFile) -> Path:
    return services.library().home(row.sae_id) / row.path


def take_cached(parts: Path, listing: Listing, file: RemoteFile, tick: Tick) -> PartFile | None:
    """A part file filled from the Hugging Face cache; publishing it checks its hash."""
    cached = in_cache(listing, file)
    if cached is None:
        return None
    part = open_part(parts, file.expected)
    with disk_errors(), cached.open("rb") as source:
        for piece in part.missing():
            source.seek(piece.start)
            left = piece.stop - piece.start
            while left and (chunk := source.read(min(CHUNK, left))):
                part.write(piece.number, chunk)
                left -= len(chunk)
                tick(part.size)
    return part
