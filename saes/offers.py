"""What a repository offers: rows of its preview, what is here of them, and which of them match."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from saes.models import Sae
from saes.preview import Preview, Row, in_library, width_as_number


class Standing(StrEnum):
    """How far an SAE is with this library."""

    NEW = "new"
    OTHER = "other"  # here, but of another commit, whose files may differ
    FAILED = "failed"  # goes on where it stopped
    ASKS = "asks"  # its files do not say enough: it needs an answer, no download
    COMING = "coming"
    HERE = "here"


CAN_BEGIN = (Standing.NEW, Standing.OTHER, Standing.FAILED)


@dataclass(frozen=True)
class Offer:
    row: Row
    sae: Sae | None
    standing: Standing

    @property
    def can_begin(self) -> bool:
        return self.standing in CAN_BEGIN

    @property
    def is_missing(self) -> bool:
        """Whether "all" means it, too: a new commit alone is no reason to fetch all again."""
        return self.standing in (Standing.NEW, Standing.FAILED)


def offers_of(found: Preview) -> list[Offer]:
    here, commit = in_library(found.listing), found.listing.commit
    return [_offer(row, here.get(row.where), commit) for row in found.rows]


def _offer(row: Row, sae: Sae | None, commit: str) -> Offer:
    if sae is None:
        return Offer(row, None, Standing.NEW)
    return Offer(row, sae, standing_of(sae, commit))


def standing_of(sae: Sae, commit: str) -> Standing:
    if sae.hf_commit not in ("", commit):
        return Standing.OTHER
    if sae.status == Sae.Status.ERROR:
        return Standing.ASKS if sae.missing_facts else Standing.FAILED
    return Standing.HERE if sae.status == Sae.Status.READY else Standing.COMING


# --- filters --------------------------------------------------------------------------------------

# What there is to choose from, and what its values are sorted by.
CHOICES: dict[str, Callable[[Any], Any]] = {
    "layer": int,
    "hook_type": str,
    "width": width_as_number,
    "l0": str,  # words; numbers have a range
}


@dataclass(frozen=True)
class Filters:
    """What a page's address, or its form, asks for; what cannot be meant matches nothing."""

    layer: str = ""
    hook_type: str = ""
    width: str = ""
    l0: str = ""
    l0_min: str = ""
    l0_max: str = ""
    search: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Filters":
        return cls(**{name: str(given.get(name, "")) for name in cls.__dataclass_fields__})

    @property
    def given(self) -> dict[str, str]:
        return {name: value for name, value in vars(self).items() if value}

    def match(self, row: Row) -> bool:
        same = all(
            str(getattr(row, name)) == value for name in CHOICES if (value := getattr(self, name))
        )
        return same and self._in_range(row.l0) and self.search.lower() in row.where.lower()

    def _in_range(self, l0: int | str | None) -> bool:
        if not (self.l0_min or self.l0_max):
            return True
        least, most = _limit(self.l0_min, 0), _limit(self.l0_max, float("inf"))
        return isinstance(l0, int) and least <= l0 <= most


def _limit(text: str, otherwise: float) -> float:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else otherwise


def choices(rows: list[Row]) -> dict[str, list[Any]]:
    """The values of these rows to choose from."""
    found = {name: {getattr(row, name) for row in rows} - {None, ""} for name in CHOICES}
    found["l0"] = {l0 for l0 in found["l0"] if isinstance(l0, str)}
    return {name: sorted(values, key=CHOICES[name]) for name, values in found.items()}


def l0_range(rows: list[Row]) -> tuple[int, int] | None:
    """The least and the largest L0, where numbers tell it and differ."""
    numbers = [row.l0 for row in rows if isinstance(row.l0, int)]
    return (min(numbers), max(numbers)) if len(set(numbers)) > 1 else None
