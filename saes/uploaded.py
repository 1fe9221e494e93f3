"""How long uploads stay: until they are imported or discarded, or for a day."""

import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from saes import folders, roles, services
from saes.errors import Conflict, DataMissing, DiskFull, SaeError
from saes.folders import Place
from saes.formats import find_saes
from saes.models import Job, Sae, Upload
from saes.storage import ID, disk_errors, remove_folder, size_of
from saes.uploads import COMING, STAYS


def of(user: User) -> list[Upload]:
    """Those of a user, the newest first."""
    return list(Upload.objects.filter(created_by=user))


def discard(user: User | None, upload: Upload) -> None:
    """Raises Forbidden; Conflict while SAEs of it are being imported."""
    roles.require_edit(user)
    if not _remove(upload):
        raise Conflict(
            "SAEs of this upload are being imported.",
            solution="Wait until they are, or cancel their jobs; then discard it.",
        )


def _remove(upload: Upload) -> bool:
    """False, and nothing is, while SAEs of it are being imported.

    The row first: a folder without one is found again. Whoever starts an import holds the row, too.
    """
    with transaction.atomic():
        held = Upload.objects.select_for_update().filter(id=upload.id)
        if held.first() and _saes(upload).filter(jobs__state__in=Job.ACTIVE).exists():
            return False
        held.delete()
    remove_folder(services.library().upload(upload.id))
    return True


def _saes(upload: Upload) -> QuerySet[Sae]:
    return Sae.objects.filter(import_root=folders.upload_root(upload))


def _is_imported(upload: Upload) -> bool:
    """Every SAE in it has copies of its files, also those that were not chosen at first."""
    saes = _saes(upload).exclude(downloaded_at=None)
    imported = set(saes.values_list("import_path", flat=True))
    with suppress(SaeError):
        return bool(imported) and _held_by(folders.upload_root(upload)) <= imported
    return False


@lru_cache(maxsize=1000)
def _held_by(root: str) -> frozenset[str]:
    """Where its SAEs are: of what is whole, that stays as it is."""
    return frozenset(it.where for it in find_saes(folders.opened(Place(root)).tree))


def sweep() -> None:
    """Remove uploads that were imported whole, those of more than a day, and what has no row."""
    shelf = services.library()
    with suppress(DataMissing, DiskFull), disk_errors():  # the next look is in seconds
        shelf.require_there()
        old = timezone.now() - STAYS
        for upload in Upload.objects.all():
            if upload.changed_at < old or _is_imported(upload):
                _remove(upload)
        remove_leftovers()


def leftovers() -> list[Path]:
    """Folders of uploads that have no row, and what a form was sending a day ago."""
    folder = services.library().root / "uploads"
    with suppress(FileNotFoundError):
        names = sorted(it.name for it in folder.iterdir() if ID.fullmatch(it.name))
        known = set(Upload.objects.values_list("id", flat=True))
        return [*(folder / it for it in names if it not in known), *_old(folder / COMING)]
    return []


def _old(folder: Path) -> Iterable[Path]:
    limit = time.time() - STAYS.total_seconds()
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime < limit:
                yield path


def remove_leftovers() -> int:
    """How many there were."""
    found = leftovers()
    for path in found:
        if path.is_dir() and not path.is_symlink():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
    return len(found)


def bytes_on_disk() -> int:
    return size_of(services.library().root / "uploads")
