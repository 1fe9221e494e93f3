"""What lies beside the SAEs: folders that no row names, links, and leftovers of the queue."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from saes import uploaded, uploads
from saes.doctor.finding import Finding, Kind
from saes.doctor.folder import look_into, shown
from saes.locks import is_free
from saes.models import Sae
from saes.storage import ID, MARK, Library

LIMITS_LAST = 86_400.0  # seconds: no limit of a host is for longer than an hour


def findings(shelf: Library) -> Iterator[Finding]:
    # The names first: a folder that was there has its row already, if it ever gets one.
    names = _names(shelf.root / "saes")
    known = set(Sae.objects.values_list("id", flat=True))
    for name in names:
        yield from _entry(shelf, name, known)
    for name in _names(shelf.root / "kept"):
        if (shelf.root / "kept" / name).is_symlink():
            yield _link(f"kept/{shown(name)}")
    yield from _leftovers(shelf, known)
    yield from _uploads(shelf)


def _names(folder: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(os.listdir(folder))  # noqa: PTH208  names alone, of a hundred thousand
    return []


def _entry(shelf: Library, name: str, known: set[str]) -> Iterator[Finding]:
    path, place = shelf.root / "saes" / name, f"saes/{shown(name)}"
    if path.is_symlink():
        yield _link(place)
    elif name in known or name.startswith(MARK):
        return
    elif not ID.fullmatch(name) or not path.is_dir():
        yield Finding(Kind.FOREIGN, place, 0, f"`{place}` was not put there by miStudio.", "")
    elif is_free(_locks(shelf) / name):  # else a worker is about to remove it
        yield _orphan(path, place)


def _link(place: str) -> Finding:
    return Finding(Kind.LINK, place, 0, f"`{place}` is a link: it is not followed.", "")


def _orphan(path: Path, place: str) -> Finding:
    found = look_into(path)
    count = f"{len(found.files):,} file{'' if len(found.files) == 1 else 's'}"
    repair = "Remove: it is empty." if found.is_empty else "Move to the kept files."
    says = f"No SAE has the folder `{place}` ({count})."
    return Finding(Kind.ORPHAN, place, found.size, says, repair, path.name)


def _uploads(shelf: Library) -> Iterator[Finding]:
    for path in uploaded.leftovers():
        place = shown(shelf.relative(path))
        size = look_into(path).size if path.is_dir() else path.lstat().st_size
        yield Finding(Kind.UPLOAD, place, size, f"No upload has `{place}` any more.", "Remove.")
    for name in _names(shelf.root / "uploads"):
        if name != uploads.COMING and not ID.fullmatch(name):
            place = f"uploads/{shown(name)}"
            says = f"`{place}` was not put there by miStudio."
            yield Finding(Kind.FOREIGN, place, 0, says, "")


# --- leftovers of the queue -----------------------------------------------------------------------


def _leftovers(shelf: Library, known: set[str]) -> Iterator[Finding]:
    if locks := old_locks(shelf, known):
        yield _left(len(locks), "run/locks", "lock", "of SAEs that are gone")
    if limits := old_limits(shelf):
        yield _left(len(limits), "run/limits", "note", "of limits that have passed")


def _left(count: int, place: str, what: str, whose: str) -> Finding:
    many = f"{count:,} {what}{'' if count == 1 else 's'}"
    return Finding(Kind.LEFTOVER, place, 0, f"`{place}` holds {many} {whose}.", "Remove.")


def _locks(shelf: Library) -> Path:
    return shelf.root / "run" / "locks"


def old_locks(shelf: Library, known: set[str]) -> list[Path]:
    """Those of SAEs without row and folder, that nobody has."""
    homes = shelf.root / "saes"
    names = [it for it in _names(_locks(shelf)) if it not in known and ID.fullmatch(it)]
    paths = [_locks(shelf) / name for name in names if not (homes / name).exists()]
    return [path for path in paths if is_free(path)]


def old_limits(shelf: Library) -> list[Path]:
    """What the Hub's hosts asked for a day ago, and drafts of that."""
    folder, now = shelf.root / "run" / "limits", time.time()
    found = []
    for name in _names(folder):
        with suppress(FileNotFoundError):
            if now - (folder / name).lstat().st_mtime > LIMITS_LAST:
                found.append(folder / name)
    return found
