"""What a user can ask of the library, as plain functions: create, describe, edit, delete."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from saes import converter, mounted, vault
from saes.errors import Conflict, DataMissing, NotFound, NotReady, SaeError
from saes.formats import FORMATS
from saes.formats.base import Fact, Origin, SaeInfo, WritableFormat, from_run
from saes.formats.given import cleaned
from saes.formats.mistudio import rewrite_metadata
from saes.hub import Hub, Limits
from saes.models import HubToken, Sae, SaeFile
from saes.storage import (
    Library,
    Tick,
    Written,
    disk_errors,
    freed_by_removing,
    sha256_of,
    size_of,
)

T = TypeVar("T")
_TEXTS = ("model_name", "architecture", "hook_name", "hook_type")
_NUMBERS = ("layer", "d_in", "d_sae")
_DESCRIBED = ("format", "facts", "tensors", *_TEXTS, *_NUMBERS)
EDITABLE = frozenset({"name", "description", "notes", "tags"})
NATIVE = "mistudio"  # the form that SAEs of the library are kept in
DESCRIPTIVE = frozenset({"model_name", "hook_name", "layer"})  # facts that change no number


def library() -> Library:
    return Library(settings.DATA_DIR, mounted.guard)


def hub_for(token: HubToken | None) -> Hub:
    return hub_with(vault.reveal(token))


def hub_with(token: str | None, **more: float) -> Hub:
    """The Hub, asked with a token that is in hand. `more`: see Hub."""
    limits = Limits(settings.DATA_DIR / "run" / "limits")
    return Hub(settings.HF_ENDPOINT, token, limits=limits, **more)


def in_parts(values: Iterable[T], size: int = 500) -> Iterator[list[T]]:
    """For databases that take so many values in one question."""
    listed = list(values)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


def describe(sae: Sae, info: SaeInfo) -> None:
    """Store what config and headers told, and the columns that lists filter by."""
    sae.format = info.format
    sae.facts = {
        name: {"value": fact.value, "origin": str(fact.origin)}
        for name, fact in from_run(info.facts, sae.trained).items()
        if fact.value is not None
    }
    sae.tensors = [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in info.tensors]
    for column in _TEXTS:
        setattr(sae, column, str(info.get(column) or "")[:200])
    for column in _NUMBERS:
        setattr(sae, column, info.get(column))
    sae.save(update_fields=[*_DESCRIBED, "updated_at"])


def record_file(sae: Sae, kind: SaeFile.Kind, written: Written, verified_against: str = "") -> None:
    home = library().home(sae.id)
    SaeFile.objects.update_or_create(
        sae=sae,
        path=written.path.relative_to(home).as_posix(),
        defaults={
            "kind": kind,
            "size": written.size,
            "sha256": written.sha256,
            "verified_against": verified_against,
        },
    )


def is_as_recorded(file: SaeFile, tick: Tick = lambda done: None) -> bool:
    """Whether the file on disk still has the bytes that were recorded.

    Raises DataAway where it is not the file that is missing, but the disk.
    """
    shelf = library()
    path = shelf.home(file.sae_id) / file.path
    with disk_errors():
        whole = path.is_file() and path.stat().st_size == file.size
        whole = whole and sha256_of(path, tick) == file.sha256
    if not whole:
        shelf.require_there()
    return whole


def distrust(sae: Sae, error: SaeError) -> None:
    """An SAE that was ready is not any more."""
    Sae.objects.filter(id=sae.id, status=Sae.Status.READY).update(
        status=Sae.Status.ERROR, error_code=error.code, error_message=str(error),
        error_solution=error.next_step, updated_at=timezone.now(),
    )  # fmt: skip


def reread(sae: Sae) -> None:
    """Read facts and shapes of a ready SAE from its files again. Raises NotReady, BrokenFile …"""
    if sae.status != Sae.Status.READY:
        raise NotReady(f"{sae.name} is not ready.")
    if not has_source(sae):
        raise DataMissing(
            f"The downloaded files of {sae.name} were removed.",
            solution="Convert it again: they are downloaded once more.",
        )
    source = library().source(sae.id)
    info = converter.inspect(source, sae.where, sae.repo_id, sae.given_facts)
    describe(sae, info)


def suggest_model(sae: Sae) -> str | None:
    """A model name from the width alone: a suggestion to show, never stored as a fact."""
    if sae.model_name or not sae.d_in:
        return None
    return converter.infer_model_from_dimensions(sae.d_in)


def sae_of(sae_id: str) -> Sae:
    """Raises NotFound."""
    sae = Sae.objects.filter(id=sae_id).first()
    if sae is None:
        raise NotFound(f"There is no SAE {sae_id[:50]!r} in the library.")
    return sae


def edit(sae: Sae, **texts: Any) -> None:
    """Any of name, description, notes and tags. Raises NotFound if it was deleted meanwhile."""
    changed = {name: texts[name] for name in texts.keys() & EDITABLE}
    if not Sae.objects.filter(id=sae.id).update(**changed, updated_at=timezone.now()):
        raise NotFound(f"{sae.name} was deleted meanwhile.")
    for name, value in changed.items():
        setattr(sae, name, value)


def give_facts(sae: Sae, given: Mapping[str, Any]) -> bool:
    """Store what the user states; None withdraws it. True where it must be converted anew.

    Nothing is stored of what is refused. Raises BadFact, DimensionMismatch for a model name that
    the width contradicts, Conflict during a job, DataMissing. The caller holds the SAE.
    """
    if sae.active_job:
        raise Conflict("This SAE is being worked on; its facts can be edited when that has ended.")
    changed = {n: value for n, value in cleaned(given).items() if sae.given_facts.get(n) != value}
    withdrawn = {name for name in sae.given_facts if name in given and given[name] is None}
    if not changed and not withdrawn:
        return False
    if "model_name" in changed:
        converter.check_dimensions(changed["model_name"], stored_info(sae))
    descriptive = not withdrawn and changed.keys() <= DESCRIPTIVE
    anew = sae.status != Sae.Status.READY or not descriptive
    if not anew:
        _state(sae, changed)
    kept = {name: it for name, it in sae.given_facts.items() if name not in withdrawn}
    sae.given_facts = {**kept, **changed}
    sae.save(update_fields=["given_facts", "updated_at"])
    return anew


def stored_info(sae: Sae) -> SaeInfo:
    """What the row knows, in the form that the converter speaks."""
    facts = {name: Fact(it["value"], Origin(it["origin"])) for name, it in sae.facts.items()}
    return SaeInfo(sae.format, sae.where, facts)


def _state(sae: Sae, changed: Mapping[str, Any]) -> None:
    """Descriptive facts change the row and metadata.json; the weights stay as certified."""
    if not sae.kept_because:
        _state_in_file(sae, changed)
    for name, value in changed.items():
        sae.facts[name] = {"value": value, "origin": str(Origin.USER)}
        setattr(sae, name, value)
    sae.save(update_fields=["facts", *changed, "updated_at"])


def _state_in_file(sae: Sae, changed: Mapping[str, Any]) -> None:
    path = library().native(sae.id) / "metadata.json"
    if not path.is_file():
        raise DataMissing(f"The files of {sae.name} are not there.")
    with disk_errors():
        rewrite_metadata(path.parent, changed)
    drop_exports(sae)
    written = Written(path, path.stat().st_size, sha256_of(path))
    record_file(sae, SaeFile.Kind.NATIVE, written)


def formats_for(sae: Sae) -> list[str]:
    """Formats that can hold this SAE, its own form on disk first; empty for what is only kept."""
    if sae.kept_because:
        return []
    info = stored_info(sae)
    fits = [
        family.slug
        for family in FORMATS
        if isinstance(family, WritableFormat) and info.get("architecture") in family.architectures
    ]
    return sorted(fits, key=lambda slug: slug != NATIVE)


def refuse_export(sae: Sae, format: str) -> None:
    """Raises NotReady, CannotRepresent, Conflict where the SAE cannot be converted to `format`."""
    if sae.status != Sae.Status.READY:
        raise NotReady(f"{sae.name} is not ready.")
    converter.refuse_misfit(stored_info(sae), converter.writer(format))
    if format == NATIVE:
        raise Conflict(f"{sae.name} is in this format already.", solution="Download its files.")


def drop_exports(sae: Sae) -> None:
    sae.files.filter(kind=SaeFile.Kind.EXPORT).delete()
    library().drop(sae.id, "exports")


def bytes_on_disk(sae: Sae) -> int:
    """Everything in the SAE's folder, part files included."""
    return size_of(library().home(sae.id))


def bytes_freed(*saes: Sae) -> int:
    """What deleting these gives back: files that others share stay on the disk."""
    return freed_by_removing(*(library().home(sae.id) for sae in saes))


def has_source(sae: Sae) -> bool:
    """Whether anything of what was downloaded is kept: it can be removed, see drop_source()."""
    return sae.files.filter(kind=SaeFile.Kind.SOURCE).exists()


def drop_source(sae: Sae) -> int:
    """Remove what was downloaded of a converted SAE. Bytes that this freed. Raises DataMissing.

    The caller holds the SAE. A new conversion downloads it again.
    """
    shelf = library()
    freed = freed_by_removing(shelf.source(sae.id))
    sae.files.filter(kind=SaeFile.Kind.SOURCE).delete()
    finish(sae)
    shelf.drop(sae.id, "source")
    return freed


@transaction.atomic
def delete_but_keep(sae: Sae) -> Path | None:
    """Remove the row and move its files to `kept/`: both or neither. The caller holds the SAE."""
    label = {"name": sae.name, "repo": sae.repo_id or sae.import_root, "path": sae.where}
    Sae.objects.filter(id=sae.id).delete()
    return library().keep(sae.id, label)


def finish(sae: Sae) -> None:
    """Everything is on disk and certified: sizes and times of the row."""
    library().drop_parts(sae.id)  # a worker that was killed may have left some
    sae.local_path = library().relative(library().home(sae.id))
    sae.file_size_bytes = sum(sae.files.values_list("size", flat=True))
    sae.missing_facts = []
    sae.save(update_fields=["local_path", "file_size_bytes", "missing_facts", "updated_at"])
