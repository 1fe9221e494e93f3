"""Uploads: files that a browser sends in pieces, or as one form, and how long they stay.

What is here of a file is its size on the disk; a piece goes where the last one ended, or nowhere.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Protocol

from django.contrib.auth.models import User
from django.core import signing
from django.utils import timezone

from saes import roles, room, services
from saes.errors import BadBody, Conflict, DiskFull, NotFound, WrongOffset
from saes.models import Upload
from saes.parts import refuse_last_bytes
from saes.safe_names import LONGEST_PLACE, refuse_unsafe, target_in
from saes.storage import MARGIN, disk_errors, size_of, sync

PIECE = 8 << 20  # bytes that a browser sends at once
CHUNK = 1 << 20  # bytes in memory
MOST_FILES = 5_000
STAYS = timedelta(days=1)  # after the last bytes came, where nobody imports it
COMING = ".coming"  # in uploads/: what forms are sending
A_MOMENT = 5.0  # seconds
SALT = "saes.uploads"


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Received:
    """How much of a file is here now, in bytes, and whether that is all of the upload."""

    here: int
    is_whole: bool


# --- in pieces -----------------------------------------------------------------------------------


def announce(user: User | None, files: object) -> Upload:
    """A new upload of `[{"name": …, "size": …}]`; empty files are here at once.

    Raises Forbidden, BadBody, UnsafeName, DiskFull.
    """
    roles.require(user, roles.ADD)
    shelf = services.library()
    shelf.require_there(opening=True)
    listed = _checked(files)
    upload = Upload(created_by=user, files=listed, size=sum(file["size"] for file in listed))
    refuse_too_much(upload.size)
    upload.save(force_insert=True)
    with disk_errors():
        folder = shelf.upload(upload.id)
        folder.mkdir(parents=True)
        for file in listed:
            if not file["size"]:
                _opened_to_write(target_in(folder, file["name"])).close()
    _note_progress(upload)
    return upload


def _checked(files: object) -> list[dict[str, Any]]:
    if not isinstance(files, list) or not 1 <= len(files) <= MOST_FILES:
        raise BadBody(
            f"An upload has 1 to {MOST_FILES:,} files.", solution="Put more into one zip archive."
        )
    listed = [_checked_file(file) for file in files]
    names = [file["name"] for file in listed]
    refuse_unsafe(names)
    _refuse_twice(names)
    return listed


def _checked_file(file: object) -> dict[str, Any]:
    name, size = (file.get("name"), file.get("size")) if isinstance(file, dict) else (None, None)
    if not isinstance(name, str) or type(size) is not int or not 0 <= size < 2**50:
        raise BadBody("Each file needs a name and a size in bytes.")
    if len(name) > LONGEST_PLACE:
        raise BadBody(f"A path has at most {LONGEST_PLACE} letters.")
    return {"name": name, "size": size}


def _refuse_twice(names: Sequence[str]) -> None:
    """Two files of one name, or a file where another one has a folder. Raises BadBody."""
    taken = {name.casefold() for name in names}
    if len(taken) != len(names):
        raise BadBody("Two files have the same name.", solution="Send them one after another.")
    for name in names:
        above = name.casefold()
        while above := above.rpartition("/")[0]:
            if above in taken:
                raise BadBody(f"{name!r} lies in a folder that is a file, too.")


def refuse_too_much(size: int) -> None:
    """Raises DiskFull, with the numbers, where other uploads and jobs count on the room."""
    free = services.library().free() - room.promised() - still_coming()
    if size + MARGIN > free:
        raise DiskFull(
            f"This upload has {size:,} bytes; {max(0, free - MARGIN):,} are free.",
            solution="Free some space, or upload less at once.",
        )


def still_coming() -> int:
    """Bytes of uploads that are announced, and not here yet."""
    shelf = services.library()
    coming = Upload.objects.filter(is_whole=False)
    return sum(max(0, it.size - size_of(shelf.upload(it.id))) for it in coming)


def append(upload: Upload, number: int, offset: int, length: int, stream: Stream) -> Received:
    """A piece of the file `number`, written to the disk chunk by chunk.

    Raises WrongOffset for one that begins elsewhere: nothing is written then; BadBody for one that
    would make the file longer than was announced; NotFound, DiskFull.
    """
    if not 0 <= number < len(upload.files):
        raise NotFound("The upload has no such file.")
    file = upload.files[number]
    if not 0 <= length <= min(PIECE, file["size"] - offset):
        raise BadBody(
            f"`{file['name']}` has {file['size']:,} bytes, and a piece at most {PIECE:,}.",
            solution="Send the file anew: it changed while it was read.",
        )
    shelf = services.library()
    with shelf.hold(upload.id, _no_check, A_MOMENT), disk_errors():
        folder = shelf.upload(upload.id)
        if not folder.is_dir():
            raise NotFound("This upload was discarded.")
        try:
            here = _append(target_in(folder, file["name"]), offset, length, stream)
        except WrongOffset as told:
            if told.here == file["size"]:  # nothing more is sent of it
                _note_progress(upload)
            raise
    upload.changed_at = timezone.now()
    Upload.objects.filter(id=upload.id).update(changed_at=upload.changed_at)
    if here == file["size"]:
        _note_progress(upload)
    return Received(here, upload.is_whole)


def _append(path: Path, offset: int, length: int, stream: Stream) -> int:
    with _opened_to_write(path) as file:
        here = file.seek(0, os.SEEK_END)
        if here != offset:
            raise WrongOffset(here)
        refuse_last_bytes(file.fileno(), length)
        while length > 0 and (chunk := stream.read(min(CHUNK, length))):
            here += file.write(chunk)
            length -= len(chunk)
        file.flush()
        os.fsync(file.fileno())
        return here


def _opened_to_write(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "r+b")


def look_again(upload: Upload) -> None:
    """The server may have ended after the last bytes came, and before that was noted."""
    if not upload.is_whole:
        lock = services.library().hold(upload.id, _no_check, 0)
        with suppress(Conflict), lock, disk_errors():
            _note_progress(upload)


def _note_progress(upload: Upload) -> None:
    """It is whole once every file is as long as was announced, and on the disk."""
    folder = services.library().upload(upload.id)
    paths = [folder / it["name"] for it in upload.files]
    with suppress(FileNotFoundError):
        if [path.stat().st_size for path in paths] == [it["size"] for it in upload.files]:
            for path in paths:
                sync(path)
            upload.is_whole = True
            Upload.objects.filter(id=upload.id).update(is_whole=True)


def _no_check() -> None:
    """It takes a moment only."""


# --- as one form, without JavaScript --------------------------------------------------------------


def ticket(user: User) -> str:
    """For the address of the form: only who was shown one may send bodies of this size."""
    return signing.dumps(user.pk, salt=SALT)


def holder_of(ticket: str) -> int | None:
    """The user to whom it was given, if it was."""
    try:
        return int(signing.loads(ticket, salt=SALT, max_age=STAYS))
    except signing.BadSignature:
        return None


def coming() -> Path:
    """The folder of what forms are sending, on the disk where it is going to stay.

    Raises OSError.
    """
    folder = services.library().root / "uploads" / COMING
    folder.parent.mkdir(exist_ok=True)  # without parents: a disk may be away
    folder.mkdir(exist_ok=True)
    return folder


def take(user: User | None, files: Mapping[str, Path]) -> Upload:
    """An upload of files that lie in coming(): they are renamed. Raises what announce() does."""
    roles.require(user, roles.ADD)
    shelf = services.library()
    shelf.require_there(opening=True)
    with disk_errors():
        listed = _checked([{"name": it, "size": at.stat().st_size} for it, at in files.items()])
        size = sum(file["size"] for file in listed)
        upload = Upload(created_by=user, files=listed, size=size)
        upload.save(force_insert=True)
        folder = shelf.upload(upload.id)
        folder.mkdir(parents=True)
        for name, path in files.items():
            sync(path)
            path.rename(target_in(folder, name))
        sync(folder)
    _note_progress(upload)
    return upload
