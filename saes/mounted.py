"""Whether the data directory is there, and whether it is the one that the database means.

A disk that is not mounted looks like a folder whose files were deleted. So `saes/` carries a mark,
a random word that the database knows, too: without it nothing is believed missing, and nothing is
written there.
"""

import errno
import os
import secrets

from saes.errors import DataAway
from saes.models import DataDirectory, SaeFile
from saes.storage import Library, disk_errors, sync

LONGEST = 64  # bytes of a mark that are looked at
LOOKED_AT = 50  # files of the newest SAEs: that one of them is there tells enough
_ADOPT = "If this is the right folder: `manage.py sae_doctor --adopt`."
_MOUNT = f"{DataAway.solution} {_ADOPT}"


def guard(shelf: Library, opening: bool) -> None:
    """Raises DataAway. `opening`: something is to be written; a new folder gets its mark."""
    row, found = DataDirectory.objects.first(), read_mark(shelf)
    if found and (row is None or found != row.mark):
        raise DataAway(
            "The data directory belongs to another miStudio; is the right disk mounted?",
            solution=f"Mount the disk of this one. {_ADOPT}",
        )
    if not found:
        _refuse_unmounted(shelf, row)
    if opening and not (row and row.placed):
        adopt(shelf)


def _refuse_unmounted(shelf: Library, row: DataDirectory | None) -> None:
    """Without a mark it is a new installation, or one from before there were marks."""
    if row and row.placed:
        raise DataAway(
            "The SAEs' folder is not there, or is not this miStudio's; is its disk mounted?",
            solution=_MOUNT,
        )
    newest = SaeFile.objects.order_by("-id").values_list("sae_id", flat=True)[:LOOKED_AT]
    homes = [shelf.home(sae_id) for sae_id in set(newest)]
    if homes and not any(home.is_dir() for home in homes):
        raise DataAway(
            "No SAE has its files in the data directory; is its disk mounted?", solution=_MOUNT
        )


def read_mark(shelf: Library) -> str:
    """The word in the folder; empty where there is none. Raises DataAway."""
    try:
        descriptor = os.open(shelf.mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(LONGEST).decode("ascii", "replace").strip() or "empty"
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        why = os.strerror(error.errno or errno.EIO).lower()
        raise DataAway(
            f"`saes/{shelf.mark.name}` cannot be read ({why}); is its disk mounted?",
            solution=_MOUNT,
        ) from error


def adopt(shelf: Library) -> None:
    """Let this folder be the one that is meant: the mark is written, then known to be there."""
    made = {"mark": secrets.token_hex(16)}
    row, _ = DataDirectory.objects.get_or_create(id=1, defaults=made)
    draft = shelf.mark.with_name(f"{shelf.mark.name}.{secrets.token_hex(4)}")
    with disk_errors():
        shelf.mark.parent.mkdir(exist_ok=True)
        draft.write_text(row.mark, "ascii")
        draft.replace(shelf.mark)
        sync(shelf.mark.parent)
    DataDirectory.objects.filter(id=row.id).update(placed=True)
