"""Folders of this machine that SAEs come from: import roots, training runs, uploads.

Each has a name, which rows store with the path below it: "imports", "training:train_…",
"upload:up_…". What lies outside of them is out of reach, and nothing tells whether it exists.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from django.conf import settings

from saes.errors import Conflict, DataMissing, OutsideRoots, PathNotFound
from saes.formats import ArchiveSource, FolderSource
from saes.formats.base import ROOT, parent
from saes.formats.names import hub_name_in
from saes.models import TRAINING, UPLOAD, Training, Upload
from saes.storage import Library


@dataclass(frozen=True)
class Place:
    """A folder or file: the name of its root, and the path below that."""

    root: str
    path: str = ROOT

    @property
    def label(self) -> str:
        """As users write it."""
        return self.root if self.path == ROOT else f"{self.root}/{self.path}"


def folder_of(root: str) -> Path:
    """Raises OutsideRoots for a name that is none, or not any more."""
    if root.startswith(TRAINING):
        run = Training.objects.filter(id=root.removeprefix(TRAINING)).first()
        found = Path(run.directory) if run else None
    elif root.startswith(UPLOAD):
        found = Library(settings.DATA_DIR).upload(_upload_of(root).id)
    else:
        found = settings.IMPORT_ROOTS.get(root)
    if found is None:
        raise _outside()
    return found


def place_of(path: str) -> Place:
    """What a user means by `/srv/saes/mine` or `imports/mine`. Raises OutsideRoots.

    The disk is not asked: outside of the roots every path gives the same answer.
    """
    if "\0" not in path and path.strip():
        wanted = Path(os.path.normpath(path.strip()))
        for root, folder in settings.IMPORT_ROOTS.items():
            for start in (folder, folder.resolve(), Path(root)):
                if wanted.is_relative_to(start):
                    return Place(root, PurePosixPath(wanted.relative_to(start)).as_posix())
    raise _outside()


def opened(place: Place) -> FolderSource:
    """The place as a Source, its names those below the root. Raises OutsideRoots, PathNotFound …"""
    folder = folder_of(place.root)
    if not folder.is_dir():
        raise DataMissing(f"The folder {place.root} is not there.", solution="Is its disk mounted?")
    if archive := _archive_of(place.root):
        return ArchiveSource(folder, archive, hub_name_in(place.path) or None, place.path)
    kind = _kind_of(FolderSource(folder).path(place.path), place)
    below = place.path if stat.S_ISDIR(kind) else parent(place.path)
    return FolderSource(folder, hub_name_in(place.path) or None, below=below)


def _kind_of(path: Path, place: Place) -> int:
    """Raises PathNotFound, DataMissing."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EIO):
            raise DataMissing(
                f"`{place.path}` cannot be read: {os.strerror(error.errno).lower()}.",
                solution="Let the server's user read it.",
            ) from error
        raise PathNotFound(
            f"There is no `{place.path[:200]}` in {place.root}.",
            solution="Look into the folder and choose what is there.",
        ) from error


# --- uploads -------------------------------------------------------------------------------------


def upload_root(upload: Upload) -> str:
    return f"{UPLOAD}{upload.id}"


def hold_upload(root: str) -> None:
    """Until the transaction ends nobody removes it. Raises OutsideRoots where somebody did."""
    if not Upload.objects.select_for_update().filter(id=root.removeprefix(UPLOAD)).first():
        raise _gone()


def _gone() -> OutsideRoots:
    return OutsideRoots(
        "The upload that this was to come from is gone.", solution="Upload the files again."
    )


def _upload_of(root: str) -> Upload:
    """Raises OutsideRoots, and Conflict while its files still come."""
    upload = Upload.objects.filter(id=root.removeprefix(UPLOAD)).first()
    if upload is None:
        raise _gone()
    if not upload.is_whole:
        raise Conflict(
            "This upload is not complete.", solution="Wait until it is, or upload the files again."
        )
    return upload


def _archive_of(root: str) -> str:
    return _upload_of(root).archive if root.startswith(UPLOAD) else ""


def title_of(place: Place) -> str:
    """What an SAE of this place, or all of them, may be called until somebody names it."""
    if not place.root.startswith(UPLOAD):
        return place.label
    inner = "" if place.path == ROOT else place.path
    top = str(_upload_of(place.root))
    return inner if inner.partition("/")[0] == top else f"{top} {inner}".strip()


def _outside() -> OutsideRoots:
    return OutsideRoots("This path is in none of the folders that may be imported from.")
