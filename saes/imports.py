"""What users import from folders of this machine: looking, then one SAE or those chosen."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.auth.models import User

from saes import bringing, folders, jobs, roles, room, services, trainings
from saes.admission import own_files
from saes.arrivals import ImportRequest
from saes.batches import Brought
from saes.converter import check_dimensions
from saes.errors import AlreadyHere, BadRequest, NotThisFormat, PackedTooDeep, PathNotFound
from saes.folders import Place
from saes.formats import FolderSource, by_slug, find_saes, identify, only_sae
from saes.formats.base import ROOT
from saes.models import UPLOAD, Batch, Job, Sae, Training
from saes.preview import Row, looked_for, row_of
from saes.safe_names import refuse_unsafe

AUTO = "auto"  # the format is known by what the files hold


@dataclass(frozen=True)
class Standing:
    """How what lies in a folder is with this library."""

    sae: Sae | None  # what was imported from its place, the newest
    is_changed: bool  # that was made of other files than lie there now

    @property
    def can_begin(self) -> bool:
        """Whether importing it starts anything; one that asks for facts waits for an answer."""
        sae = self.sae
        failed = sae is not None and sae.status == Sae.Status.ERROR and not sae.missing_facts
        return sae is None or self.is_changed or failed


@dataclass(frozen=True)
class Offered(Standing):
    """One SAE of a folder."""

    row: Row


@dataclass(frozen=True)
class Looked:
    """A folder, its SAEs, what was left out of it, and why there are none."""

    place: Place
    source: FolderSource
    offers: list[Offered]
    refusals: Mapping[str, str]


@dataclass(frozen=True)
class Wish:
    """How SAEs are to be imported."""

    name: str = ""
    description: str = ""
    model_name: str = ""
    format: str = AUTO
    placement: Sae.Placement = Sae.Placement.COPY
    facts: Mapping[str, Any] = field(default_factory=dict)


def look(user: User | None, place: Place) -> Looked:
    """Every SAE in a folder, from names and sizes. Raises Forbidden and what opened() raises."""
    source = opened(user, place)
    found = (it for it in find_saes(source.tree) if _lies_below(it.where, source.below))
    rows = [row_of(source.tree, it, source.size) for it in found]
    here = here_of(place.root)
    offers = [_offer(source, place.root, row, here.get(row.where)) for row in rows]
    offers.sort(key=lambda it: it.row.sort_key)
    return Looked(place, source, offers, {} if rows else looked_for())


def _lies_below(where: str, folder: str) -> bool:
    return folder in (ROOT, where) or where.startswith(f"{folder}/")


def opened(user: User | None, place: Place) -> FolderSource:
    """A place that this user may import from. Raises Forbidden; NotFound for others' uploads."""
    roles.require(user, roles.ADD)
    if place.root.startswith(UPLOAD):
        roles.upload_for(user, place.root.removeprefix(UPLOAD))
    return folders.opened(place)


def here_of(root: str) -> dict[str, Sae]:
    """SAEs that were imported from this root, the newest at each path."""
    shown = (
        "id", "name", "status", "error_code", "missing_facts", "architecture", "import_root",
        "import_path", "identity",
    )  # fmt: skip
    found = Sae.objects.filter(import_root=root).only(*shown).order_by("created_at")
    return {sae.import_path: sae for sae in found}


def _offer(source: FolderSource, root: str, row: Row, sae: Sae | None) -> Offered:
    changed = sae is not None and is_changed(sae, source, row.format)
    return Offered(sae, changed, row)


def is_changed(sae: Sae, source: FolderSource, format: str) -> bool:
    """Whether other files lie now where it was imported from."""
    place = Place(sae.import_root, sae.import_path)
    return sae.identity != ImportRequest(place, state_of(source, format, place.path)).identity


def state_of(source: FolderSource, format: str, where: str) -> str:
    """Another one where any of the SAE's files was written since. Raises UnsafeName."""
    names = by_slug(format).files(source.tree, where)
    refuse_unsafe(names)
    return source.state_of(names)


# --- one -----------------------------------------------------------------------------------------


def import_one(user: User | None, place: Place, wish: Wish) -> tuple[Sae, Job | None]:
    """Import the SAE at a path. Asked again for one that is here it starts nothing.

    Raises Forbidden, BadFact, NotThisFormat, and why the files cannot be read.
    """
    source = opened(user, place)
    where, names = own_files(source.tree, only_sae(source.tree, place.path), place.root)
    _check(source, where, wish)
    wanted = _request(Place(place.root, where), source.state_of(names), wish)
    try:
        job = jobs.start_arrival(user, wanted)
    except AlreadyHere as there:
        return bringing.asked_again(user, services.sae_of(there.sae_id), wanted)
    return services.sae_of(job.sae_id), job


def _check(source: FolderSource, where: str, wish: Wish) -> None:
    """From headers alone, so that whoever asks is told at once. Raises what the files say."""
    with suppress(PackedTooDeep):  # its job will tell
        _check_headers(source, where, wish)


def _check_headers(source: FolderSource, where: str, wish: Wish) -> None:
    found, info = identify(source, where, wish.facts)
    if wish.format != AUTO and found.slug != (named := by_slug(wish.format)).slug:
        raise NotThisFormat(f"`{where}` is in the format of {found.label}, not of {named.label}.")
    if wish.model_name:
        check_dimensions(wish.model_name, info)


def _request(place: Place, state: str, wish: Wish) -> ImportRequest:
    if place.root.startswith(UPLOAD) and wish.placement != Sae.Placement.COPY:
        raise BadRequest("Files of an upload are copied: the upload does not stay.")
    return ImportRequest(
        place, state, wish.name or folders.title_of(place), wish.description, wish.model_name,
        wish.placement, wish.facts,
    )  # fmt: skip


# --- many ----------------------------------------------------------------------------------------


def import_chosen(
    user: User | None, place: Place, wheres: Sequence[str], wish: Wish, *, anyway: bool = False
) -> Brought:
    """Those of a folder's SAEs that are named. Raises DiskFull, and what import_one() raises."""
    looked = look(user, place)
    offers = {it.row.where: it for it in looked.offers}
    if unknown := [where for where in wheres if where not in offers]:
        raise PathNotFound(
            f"There is no SAE at {unknown[0][:100]!r} in {place.label}.",
            solution="Look into the folder again and choose what is there.",
        )
    chosen = [offers[where] for where in dict.fromkeys(wheres)]
    if wish.format != AUTO or wish.model_name:  # else each job tells by itself
        for it in chosen:
            _check(looked.source, it.row.where, wish)
    new = [it.row for it in chosen if it.can_begin]
    each = wish if len(chosen) == 1 else replace(wish, name="")
    states = (state_of(looked.source, row.format, row.where) for row in new)
    wanted = [
        _request(Place(place.root, row.where), state, each)
        for row, state in zip(new, states, strict=True)
    ]
    if not anyway:
        _refuse_too_much([row.size for row in new], wish.placement)
    return _begin(user, wanted, wish.name or folders.title_of(place), [it.sae for it in chosen])


def import_training(
    user: User | None,
    training: Training,
    items: Sequence[trainings.Item],
    name: str = "",
    description: str = "",
) -> Brought:
    """SAEs of a run, each by itself, named NAME (L3-residual). Raises what import_chosen() does."""
    root = trainings.root_of(training)
    source, here = folders.opened(Place(root)), here_of(root)
    title = name or training.name
    wanted = [
        ImportRequest(
            Place(root, it.where), state_of(source, it.format, it.where), f"{title} ({it.label})",
            description, training=training,
            trained=trainings.snapshot(training, it.step),
        )
        for it in items
    ]  # fmt: skip
    _refuse_too_much([it.size for it in items if it.where not in here], Sae.Placement.COPY)
    return _begin(user, wanted, title, [here.get(it.where) for it in items])


def _refuse_too_much(sizes: Sequence[int], placement: Sae.Placement) -> None:
    """Raises DiskFull. Links and what stays in place take the room of their conversion alone."""
    room.need_of(sizes, copied=placement == Sae.Placement.COPY).refuse_too_much()


def _begin(
    user: User | None, wanted: Sequence[ImportRequest], name: str, former: Sequence[Sae | None]
) -> Brought:
    batch, begun = None, list[Job]()
    if wanted:
        batch, begun = bringing.bring_in(user, wanted, Batch(name=name[:200], created_by=user))
    ids = {job.sae_id for job in begun}
    return Brought(batch, begun, [sae for sae in former if sae and sae.id not in ids])
