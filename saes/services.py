"""What a user can ask of the library, as plain functions: create, describe, edit, delete."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from saes import converter, vault
from saes.errors import Conflict, DataMissing
from saes.formats.base import Fact, Origin, SaeInfo
from saes.formats.given import cleaned
from saes.formats.mistudio import rewrite_metadata
from saes.hub import Hub, RepoRef
from saes.models import HubToken, Sae, SaeFile
from saes.storage import Library, Written, sha256_of, size_of

_TEXTS = ("model_name", "architecture", "hook_name", "hook_type")
_NUMBERS = ("layer", "d_in", "d_sae")
_DESCRIBED = ("format", "facts", "tensors", *_TEXTS, *_NUMBERS)
DESCRIPTIVE = frozenset({"model_name", "hook_name", "layer"})  # facts that change no number


@dataclass(frozen=True)
class DownloadRequest:
    """What a user asked to bring in: `where` is the SAE's folder or file, `.` for the root."""

    ref: RepoRef
    where: str
    name: str = ""
    description: str = ""
    model_name: str = ""


def library() -> Library:
    return Library(settings.DATA_DIR)


def hub_for(token: HubToken | None) -> Hub:
    return Hub(settings.HF_ENDPOINT, vault.reveal(token))


def create(user: User | None, wanted: DownloadRequest) -> Sae:
    """A row for an SAE that is still to be fetched."""
    where = _where(wanted)
    title = wanted.name or f"{wanted.ref.id.split('/')[-1]} {'' if where == '.' else where}".strip()
    pinned = wanted.ref.revision if _is_commit(wanted.ref.revision) else ""
    return Sae.objects.create(
        name=title[:200],
        description=wanted.description,
        source=Sae.Source.HUGGINGFACE,
        hf_repo_id=wanted.ref.id,
        hf_repo_type=wanted.ref.type,
        hf_filepath=where,
        hf_revision=wanted.ref.revision,
        hf_commit=pinned,
        given_facts={"model_name": wanted.model_name} if wanted.model_name else {},
        model_name=wanted.model_name,
        created_by=user,
    )


def already_here(wanted: DownloadRequest) -> Sae | None:
    """The SAE of this repository, commit and path: pressing a button twice makes one."""
    return Sae.objects.filter(
        hf_repo_id=wanted.ref.id,
        hf_repo_type=wanted.ref.type,
        hf_commit=wanted.ref.revision,
        hf_filepath=_where(wanted),
    ).first()


def _where(wanted: DownloadRequest) -> str:
    return wanted.where.strip("/") or "."


def _is_commit(revision: str) -> bool:
    return len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)


def describe(sae: Sae, info: SaeInfo) -> None:
    """Store what config and headers told, and the columns that lists filter by."""
    sae.format = info.format
    sae.facts = {
        name: {"value": fact.value, "origin": str(fact.origin)}
        for name, fact in info.facts.items()
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


def suggest_model(sae: Sae) -> str | None:
    """A model name from the width alone: a suggestion to show, never stored as a fact."""
    if sae.model_name or not sae.d_in:
        return None
    return converter.infer_model_from_dimensions(sae.d_in)


def edit(sae: Sae, *, name: str, description: str, notes: str, tags: list[str]) -> None:
    sae.name, sae.description, sae.notes, sae.tags = name, description, notes, tags
    sae.save(update_fields=["name", "description", "notes", "tags", "updated_at"])


def give_facts(sae: Sae, given: Mapping[str, Any]) -> bool:
    """Store what the user states. True where the SAE must be converted anew for it.

    Nothing is stored of what is refused. Raises BadFact, DimensionMismatch for a model name that
    the width contradicts, Conflict during a job, DataMissing.
    """
    if sae.active_job:
        raise Conflict("This SAE is being worked on; its facts can be edited when that has ended.")
    told = cleaned(given)
    changed = {name: value for name, value in told.items() if sae.given_facts.get(name) != value}
    if "model_name" in changed:
        converter.check_dimensions(changed["model_name"], stored_info(sae))
    anew = sae.status != Sae.Status.READY or bool(changed.keys() - DESCRIPTIVE)
    if changed and not anew:
        _state(sae, changed)
    sae.given_facts = {**sae.given_facts, **changed}
    sae.save(update_fields=["given_facts", "updated_at"])
    return anew


def stored_info(sae: Sae) -> SaeInfo:
    """What the row knows, in the form that the converter speaks."""
    facts = {name: Fact(it["value"], Origin(it["origin"])) for name, it in sae.facts.items()}
    return SaeInfo(sae.format, sae.hf_filepath, facts)


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
    rewrite_metadata(path.parent, changed)
    written = Written(path, path.stat().st_size, sha256_of(path))
    record_file(sae, SaeFile.Kind.NATIVE, written)


def bytes_on_disk(sae: Sae) -> int:
    """Everything in the SAE's folder, part files included."""
    return size_of(library().home(sae.id))


@transaction.atomic
def delete_but_keep(sae: Sae) -> Path | None:
    """Remove the row and move its files to `kept/`: both or neither. The caller holds the SAE."""
    label = {"name": sae.name, "repo": sae.hf_repo_id, "path": sae.hf_filepath}
    Sae.objects.filter(id=sae.id).delete()
    return library().keep(sae.id, label)


def finish(sae: Sae) -> None:
    """Everything is on disk and certified: sizes and times of the row."""
    sae.local_path = library().relative(library().home(sae.id))
    sae.file_size_bytes = sum(sae.files.values_list("size", flat=True))
    sae.missing_facts = []
    sae.save(update_fields=["local_path", "file_size_bytes", "missing_facts", "updated_at"])
