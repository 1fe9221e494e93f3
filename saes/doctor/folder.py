"""What lies in a folder of the data directory: no link is followed, no file opened."""

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

STALE_AFTER = 5 * 60.0  # seconds: a worker may be about to go on
DRAFT, LINKING = ".draft", ".link"  # endings of what storage.py is still writing


@dataclass
class Folder:
    """Files by their paths below it. `links` and what is neither file nor folder are only named."""

    files: dict[str, os.stat_result] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(it.st_size for it in self.files.values())

    @property
    def is_empty(self) -> bool:
        return not (self.files or self.links or self.odd)

    def parts(self) -> dict[str, os.stat_result]:
        return {name: it for name, it in self.files.items() if name.startswith("parts/")}

    def drafts(self) -> dict[str, os.stat_result]:
        """Of conversions that did not end."""
        return {name: it for name, it in self.files.items() if _is_draft(name)}


def _is_draft(name: str) -> bool:
    above = name.split("/")[:-1]
    place = above[1:2] if above[:1] == ["exports"] else above[:1]
    return name.endswith(LINKING) or any(it.endswith(DRAFT) for it in place)


def look_into(path: Path) -> Folder:
    """Everything below a folder. What goes meanwhile is as if it had not been there."""
    found = Folder()
    for name, entry in _walk(path):
        with suppress(FileNotFoundError):
            mode = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(mode.st_mode):
                found.files[name] = mode
            else:
                (found.links if entry.is_symlink() else found.odd).append(name)
    return found


def _walk(path: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    folders = [""]  # no recursion: folders may lie in one another a thousand deep
    while folders:
        above = folders.pop()
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(f"{path}/{above}") as entries,
        ):
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{above}{entry.name}/")
                else:
                    yield f"{above}{entry.name}", entry


def shown(name: str) -> str:
    """A name as it can be written down: those of files may be any bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_old(found: Mapping[str, os.stat_result]) -> bool:
    """Nothing was written there for some minutes."""
    newest = max((it.st_mtime for it in found.values()), default=0.0)
    return time.time() - newest > STALE_AFTER
