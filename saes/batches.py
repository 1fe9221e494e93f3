"""Batches: many SAEs of a preview brought in at once, after a look at the disk."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User

from saes import bringing, roles, room
from saes.arrivals import DownloadRequest
from saes.errors import PathNotFound
from saes.formats import by_slug
from saes.hub import RepoRef
from saes.models import Batch, Job, Sae
from saes.offers import CAN_BEGIN, standing_of
from saes.preview import Preview, Row, in_library

NAMED = 3  # paths in a sentence


@dataclass(frozen=True)
class Order:
    """What is asked for beside the paths. `asked`: the revision as it was named."""

    name: str = ""
    description: str = ""
    model_name: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    asked: str | None = None
    secret: str | None = None
    anyway: bool = False  # also where the disk has no room for all of it


@dataclass(frozen=True)
class Brought:
    batch: Batch | None
    jobs: list[Job]
    here: list[Sae]  # in the library, or on their way, before


def named(found: Preview, paths: Iterable[str]) -> list[Row]:
    """The SAEs at these paths, of their folders or of one of their files. Raises PathNotFound."""
    rows = {row.where: row for row in found.rows}
    places = dict.fromkeys(path.strip("/") or "." for path in paths)
    if places.keys() - rows:
        owners = _owners(found)
        places = dict.fromkeys(path if path in rows else owners.get(path, path) for path in places)
    if unknown := [path for path in places if path not in rows]:
        raise PathNotFound(f"{found.listing.repo_id} holds no SAE at {_listed(unknown)}.")
    return [rows[path] for path in places]


def _owners(found: Preview) -> dict[str, str]:
    """The SAE of each file that belongs to one alone."""
    owners: dict[str, str] = {}
    shared = set()
    for row in found.rows:
        for name in by_slug(row.format).files(found.listing.tree, row.where):
            if owners.setdefault(name, row.where) != row.where:
                shared.add(name)
    return {name: where for name, where in owners.items() if name not in shared}


def _listed(paths: Sequence[str]) -> str:
    more = len(paths) - NAMED
    told = ", ".join(repr(path[:100]) for path in paths[:NAMED])
    return f"{told} and {more:,} more paths" if more > 0 else told


def bring_in(user: User | None, found: Preview, rows: Sequence[Row], order: Order) -> Brought:
    """Start what is not here yet at the preview's commit, and what failed.

    Raises Forbidden, DiskFull, BadFact, Conflict, and why the files cannot be read.
    """
    roles.require(user, roles.ADD)
    if found.access_problem:
        raise found.access_problem
    listing, wanted = found.listing, still_missing(found, rows)
    if wanted and not order.anyway:
        room.need_of([row.size for row in wanted]).refuse_too_much()
    batch, jobs = _start(user, found, wanted, order) if wanted else (None, [])
    begun, by_path = {job.sae_id for job in jobs}, in_library(listing)
    there = (by_path.get(row.where) for row in rows)
    return Brought(batch, jobs, [sae for sae in there if sae and sae.id not in begun])


def still_missing(found: Preview, rows: Iterable[Row]) -> list[Row]:
    """Those of the rows that a job could be started for."""
    here, commit = in_library(found.listing), found.listing.commit
    return [row for row in rows if _can_begin(here.get(row.where), commit)]


def _can_begin(sae: Sae | None, commit: str) -> bool:
    return sae is None or standing_of(sae, commit) in CAN_BEGIN


def _start(
    user: User | None, found: Preview, rows: Sequence[Row], order: Order
) -> tuple[Batch | None, list[Job]]:
    wanted = [_request(found, row, order) for row in rows]
    name = order.name or found.listing.repo_id
    return bringing.download_many(user, wanted, name, order.secret)


def _request(found: Preview, row: Row, order: Order) -> DownloadRequest:
    listing = found.listing
    return DownloadRequest(
        RepoRef(listing.repo_id, listing.repo_type, listing.commit), row.where,
        description=order.description, model_name=order.model_name, facts=order.facts,
        asked=order.asked,
    )  # fmt: skip
