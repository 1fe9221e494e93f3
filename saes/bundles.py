"""What of an SAE can be downloaded: its files as they came, and its forms on disk."""

import hashlib
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from saes import converter, services
from saes.errors import CannotRepresent, NotExported, NotReady
from saes.formats import FORMATS, by_slug
from saes.formats.base import WritableFormat
from saes.models import Sae, SaeFile

ORIGINAL = "original"
WRITABLE = tuple(family.slug for family in FORMATS if isinstance(family, WritableFormat))
NAMES = (ORIGINAL, *WRITABLE)
LAYOUT = 1  # of the zip: another one is other bytes, so its ETag must differ


@dataclass(frozen=True)
class Bundle:
    """The files of one form, by their names in it. `whole`: nothing of them is still to come."""

    sae: Sae
    format: str
    files: dict[str, SaeFile]
    whole: bool

    @property
    def label(self) -> str:
        return "Original files" if self.format == ORIGINAL else by_slug(self.format).label

    @property
    def available(self) -> bool:
        return self.whole and bool(self.files)

    @property
    def total_bytes(self) -> int:
        return sum(row.size for row in self.files.values())

    @property
    def only(self) -> str:
        """The name of its one file: a zip of that is of no use."""
        return next(iter(self.files))

    @property
    def stem(self) -> str:
        """What a zip of it and the folder in that are called: safe on every disk."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", self.sae.name)[:60].strip("-")
        return "-".join(filter(None, (plain, self.sae.id, self.format)))

    @property
    def digest(self) -> str:
        """Of everything that makes the bytes of its zip."""
        said = [f"{LAYOUT} {self.stem}"]
        said += [f"{row.sha256} {row.size} {name}" for name, row in sorted(self.files.items())]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()


def bundles_of(sae: Sae) -> list[Bundle]:
    """The original, and every form that can hold this SAE, whether it was made yet or not."""
    rows = list(sae.files.all())
    return [_bundle(sae, rows, name) for name in (ORIGINAL, *services.formats_for(sae))]


def asked_for(sae: Sae, format: str) -> Bundle:
    """One of NAMES, made or not. Raises CannotRepresent, NotReady."""
    bundle = _bundle(sae, list(sae.files.all()), format)
    if format != ORIGINAL:
        if sae.kept_because:
            label = by_slug(format).label
            raise CannotRepresent(f"{label} has no place for it: {sae.kept_because}.")
        if bundle.whole and not bundle.files:
            converter.refuse_misfit(services.stored_info(sae), converter.writer(format))
    if not bundle.whole:
        raise NotReady(f"{sae.name} is not ready.")
    return bundle


def to_download(sae: Sae, format: str) -> Bundle:
    """Raises NotExported where it was not made yet, and what asked_for() raises."""
    bundle = asked_for(sae, format)
    if not bundle.available:
        raise NotExported(f"{sae.name} was not converted to {bundle.label} yet.")
    return bundle


def is_on_disk(bundle: Bundle) -> bool:
    """Whether its files are there, as long as they were recorded."""
    home = services.library().home(bundle.sae.id)
    return bundle.available and all(
        _size(home / row.path) == row.size for row in bundle.files.values()
    )


def _size(path: Path) -> int | None:
    """None where there is no file, or none that the disk tells anything of."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _bundle(sae: Sae, rows: list[SaeFile], format: str) -> Bundle:
    folder = {ORIGINAL: "source/", services.NATIVE: "native/"}.get(format, f"exports/{format}/")
    files = {
        row.path.removeprefix(folder): row
        for row in sorted(rows, key=lambda row: row.path)
        if row.path.startswith(folder)
    }
    # What was fetched stays for download, also where its conversion failed.
    fetched = format == ORIGINAL and sae.downloaded_at is not None
    return Bundle(sae, format, files, fetched or sae.status == Sae.Status.READY)
