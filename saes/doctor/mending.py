"""Mends what was found: each SAE by itself, held, and only what is still so."""

import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import rmtree

from django.contrib.auth.models import User

from saes import at_hand, roles, services, uploaded
from saes.doctor import places
from saes.doctor.finding import Finding, Kind, Outcome
from saes.doctor.folder import look_into
from saes.doctor.of_sae import Look, is_whole
from saes.errors import Conflict, DataAway, DataMissing, SaeError
from saes.locks import is_free
from saes.models import Sae, SaeFile
from saes.recorder import nudge
from saes.storage import Library, Written, disk_errors, write_label

A_MOMENT = 1.0  # seconds; who is at an SAE for longer is left alone
YOURS = "It is left to you."
NO_TIME = "There was no time left for it; repair again."


def repair(
    user: User | None,
    findings: Iterable[Finding],
    *,
    delete_orphans: bool = False,
    seconds: float = 1e9,
) -> Iterator[Outcome]:
    """What becomes of each. Raises Forbidden, and DataAway before anything is done."""
    roles.require(user, roles.DELETE)
    if delete_orphans:
        roles.require(user, roles.CONTROL)
    services.library().require_there()
    end = time.monotonic() + seconds
    for finding in findings:
        if not finding.repair:
            yield Outcome(finding, why=YOURS)
        elif time.monotonic() > end:
            yield Outcome(finding, why=NO_TIME)
        else:
            yield _mended(finding, delete_orphans)


def _mended(finding: Finding, delete_orphans: bool) -> Outcome:
    try:
        with disk_errors():
            done = _mend(finding, delete_orphans)
    except DataAway:
        raise  # nothing more can be done, nor known
    except SaeError as error:
        return Outcome(finding, why=str(error))
    return Outcome(finding, done or "It is no longer so.")


def _mend(finding: Finding, delete_orphans: bool) -> str:
    shelf = services.library()
    if finding.kind == Kind.LEFTOVER:
        return _leftovers(shelf)
    if finding.kind == Kind.UPLOAD:
        return "Removed." if uploaded.remove_leftovers() else ""
    with shelf.hold(finding.sae_id, _no_check, A_MOMENT):
        shelf.refuse_link(finding.sae_id)
        if finding.kind == Kind.ORPHAN:
            return _orphan(shelf, finding.sae_id, delete_orphans)
        sae = services.sae_of(finding.sae_id)
        if sae.active_job:
            raise Conflict("A job is at work on this SAE.")
        done = _MENDING[finding.kind](shelf, sae, finding)
        nudge(sae.id)
        return done


def _no_check() -> None:
    """Nobody can cancel it."""


# --- an SAE and its files -------------------------------------------------------------------------


def _damage(shelf: Library, sae: Sae, finding: Finding) -> str:
    """It becomes an error; the pipeline looks at every file again when it is retried."""
    rows = sae.files.filter(path__in=finding.files)
    wrong = [row for row in rows if not is_whole(row)]
    if not wrong or sae.status != Sae.Status.READY:
        return ""
    if all(row.kind == SaeFile.Kind.EXPORT for row in wrong):
        services.drop_exports(sae)
        services.finish(sae)
        return "Its exports are forgotten."
    _fetch_again(sae, wrong)
    solution = "Retry: what is missing or changed is fetched and converted again."
    why = f"`{wrong[0].path}` is missing or not as it was recorded."
    services.distrust(sae, DataMissing(why, solution=solution if sae.hf_repo_id else ""))
    return "It is marked as an error."


def _fetch_again(sae: Sae, wrong: list[SaeFile]) -> None:
    """From what is here it cannot be converted, if its source is wrong or was not kept."""
    sources = sae.files.filter(kind=SaeFile.Kind.SOURCE)
    if not sources.exists() or any(row.kind == SaeFile.Kind.SOURCE for row in wrong):
        Sae.objects.filter(id=sae.id).update(downloaded_at=None)


def _sizes(shelf: Library, sae: Sae, finding: Finding) -> str:
    services.finish(sae)
    return f"Its size is {sae.file_size_bytes:,} bytes."


def _stray(shelf: Library, sae: Sae, finding: Finding) -> str:
    """Each keeps its path, in a folder of `kept/`."""
    now = _again(shelf, sae, Kind.STRAY)
    if not now:
        return ""
    kept = _free_place(shelf, f"stray_{secrets.token_hex(6)}")
    for name in now.files:
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (shelf.home(sae.id) / name).rename(kept / name)
    write_label(kept, {"name": f"Unknown files of {sae.name}"})
    return f"Moved to `{shelf.relative(kept)}`."


def _unfinished(shelf: Library, sae: Sae, finding: Finding) -> str:
    now = _again(shelf, sae, Kind.UNFINISHED)
    for name in now.files if now else ():
        (shelf.home(sae.id) / name).unlink(missing_ok=True)
        _drop_empty(shelf.home(sae.id), name)
    return "Removed." if now else ""


def _drop_empty(home: Path, name: str) -> None:
    for folder in (home / name).parents:
        if folder == home or any(folder.iterdir()):
            return
        folder.rmdir()


def _again(shelf: Library, sae: Sae, kind: Kind) -> Finding | None:
    """The same, as it is now that nobody else is at it."""
    return next((it for it in Look(shelf, sae).findings() if it.kind == kind), None)


def _duplicate(shelf: Library, sae: Sae, finding: Finding) -> str:
    linked = 0
    for row in sae.files.filter(path__in=finding.files):
        path = shelf.home(sae.id) / row.path
        before = path.lstat().st_ino if path.is_file() else None
        if before is not None:
            at_hand.share(sae, Written(path, row.size, row.sha256))
            linked += path.lstat().st_ino != before
    if not linked:
        raise Conflict("The disk cannot share them, or the other copy is damaged.")
    return "Shared."


_MENDING = {
    Kind.MISSING: _damage,
    Kind.CHANGED: _damage,
    Kind.SIZES: _sizes,
    Kind.STRAY: _stray,
    Kind.UNFINISHED: _unfinished,
    Kind.DUPLICATE: _duplicate,
}


# --- what is nobody's -----------------------------------------------------------------------------


def _orphan(shelf: Library, name: str, delete: bool) -> str:
    home = shelf.home(name)
    if Sae.objects.filter(id=name).exists() or not home.is_dir():
        return ""
    if delete or look_into(home).is_empty:
        rmtree(home)
        return "Deleted." if delete else "Removed."
    kept = _free_place(shelf, name)
    kept.parent.mkdir(exist_ok=True)
    write_label(home, {"name": f"Files without an SAE ({name})"})
    home.rename(kept)
    return f"Moved to `{shelf.relative(kept)}`."


def _free_place(shelf: Library, name: str) -> Path:
    """In `kept/`, where the files of an SAE of this name may lie already."""
    place = shelf.root / "kept" / name
    return place if not place.exists() else place.with_name(f"found_{secrets.token_hex(6)}")


def _leftovers(shelf: Library) -> str:
    known = set(Sae.objects.values_list("id", flat=True))
    for lock in places.old_locks(shelf, known):
        is_free(lock, lock.unlink)
    for limit in places.old_limits(shelf):
        limit.unlink(missing_ok=True)
    return "Removed."
