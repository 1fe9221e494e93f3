"""Remote names: which may become a path below a folder of ours, and which never do."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from saes.errors import UnsafeName

LONGEST_PART = 255  # bytes
LONGEST = 690  # letters: `source/` and it have a column of 700
LONGEST_PLACE = 500  # letters: so long is the column for where an SAE is
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$")
_FORBIDDEN = frozenset('\\<>"|?*\u2215\u2044\uff0f\uff3c')


def why_unsafe(name: str) -> str | None:
    """Why a remote name may not become a path, by POSIX and Windows rules; None if it may."""
    if not name or len(name) > LONGEST or len(name.encode("utf-8", "replace")) > 1000:
        return "it is empty or too long"
    if not (name.isascii() and name.isprintable()):  # a listing has 50,000 names, nearly all plain
        if name != unicodedata.normalize("NFC", name):
            return "it is not in Unicode's composed form"
        if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co") for c in name):
            return "it holds invisible characters"
    if not _FORBIDDEN.isdisjoint(name):
        return "it holds characters that no file name may have"
    return next((why for part in name.split("/") if (why := _why_bad_part(part))), None)


def _why_bad_part(part: str) -> str | None:
    if part in ("", ".", ".."):
        return "it leaves its folder or has an empty part"
    if part[1:2] == ":" and part[0].isalpha() or len(part.encode()) > LONGEST_PART:
        return "it names a drive or is too long"
    if part[-1] in ". " or part[0] == " " or _RESERVED.match(part):
        return "it is a reserved name or ends in a dot or space"
    return None


def refuse_unsafe(names: Iterable[str]) -> None:
    """Raises UnsafeName for a bad name, and for two that differ in case or accents only."""
    seen: dict[str, str] = {}
    for name in names:
        if why := why_unsafe(name):
            raise UnsafeName(f"The file name {name!r} is refused: {why}.")
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            raise UnsafeName(f"{twin!r} and {name!r} would be one file on some disks.")


def refuse_long_place(where: str) -> None:
    """Raises UnsafeName for where an SAE is, in what it comes from."""
    if len(where) > LONGEST_PLACE:
        raise UnsafeName(
            f"The path {where[:100]!r}… of an SAE has more than {LONGEST_PLACE} letters.",
            solution="Give its folders shorter names.",
        )


def target_in(folder: Path, name: str) -> Path:
    """The path of a remote name below `folder`. Raises UnsafeName."""
    refuse_unsafe([name])
    return folder.joinpath(*PurePosixPath(name).parts)
