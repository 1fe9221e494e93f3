"""How an SAE comes from a folder of this machine: look, copy or link, convert, verify.

Every function may be killed at any point and called again: what is finished is found on disk.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from saes import arrivals, converter, errors, folders, services
from saes.admission import own_files
from saes.collecting import Collecting
from saes.conversion import convert_from, convert_source, look_at_headers, note_arrival
from saes.folders import Place
from saes.formats import FolderSource, mistudio_training
from saes.models import Job, Sae, identity_of
from saes.progress import Reporter, Stage


def bring_in(job: Job, progress: Reporter) -> None:
    """From a folder of this machine to a certified SAE. Copies nothing that is already there."""
    progress.say(Stage.LOOKING, "Looking at the files")
    sae = job.sae
    services.library().open_home(sae.id)
    source = folders.opened(Place(sae.import_root, sae.import_path))
    _, names = own_files(source.tree, sae.where, sae.import_root)
    _begin_anew_where_changed(sae, source.state_of(names))
    with suppress(errors.PackedTooDeep):  # seen once it is unpacked
        look_at_headers(sae, source)
    _learn_from_training(sae, source)
    collecting = Collecting(job, source, names, progress)
    in_place = sae.placement == Sae.Placement.IN_PLACE
    if in_place:
        _refuse_keeping_nothing(sae)
    hashes = collecting.hashes() if in_place or _was_certified(sae) else {}
    _refuse_other_files(sae, hashes)
    if in_place:
        still = collecting.refuse_changed
        convert_from(job, source, hashes, collecting.total, progress, still)
        return
    collecting.run()
    note_arrival(sae)
    convert_source(job, progress)


def _begin_anew_where_changed(sae: Sae, state: str) -> None:
    """An attempt that never became an SAE may have copied other files. Raises AlreadyHere."""
    now = identity_of(sae.import_root, sae.import_path, state)
    if now != sae.identity and not _was_certified(sae):
        services.drop_source(sae)
        arrivals.settle_identity(sae, now)


def _was_certified(sae: Sae) -> bool:
    return bool(sae.certificate and sae.certificate["passed"])


def _refuse_other_files(sae: Sae, hashes: Mapping[str, str]) -> None:
    """What was certified once is made again of the same bytes, or not at all."""
    if _was_certified(sae) and sae.certificate and sae.certificate["source_files"] != hashes:
        raise errors.SourceChanged(f"The files of {sae.name} are not what they were.")


def _learn_from_training(sae: Sae, source: FolderSource) -> None:
    """What checkpoints do not say, the run's record says. Raises BadFact, DimensionMismatch."""
    learned = _told_by_run(sae, source) if sae.trained else {}
    if learned.keys() - sae.given_facts.keys():
        sae.trained = {**sae.trained, "facts": learned}
        sae.given_facts = {**learned, **sae.given_facts}
        sae.save(update_fields=["trained", "given_facts", "updated_at"])
        look_at_headers(sae, source)


def _told_by_run(sae: Sae, source: FolderSource) -> dict[str, Any]:
    info = converter.inspect(source, sae.where, given=sae.given_facts)
    model = sae.trained.get("model_name")
    told = mistudio_training.facts_from(sae.trained.get("hyperparameters") or {}, info)
    return {**({"model_name": model} if model else {}), **told}


def _refuse_keeping_nothing(sae: Sae) -> None:
    """Of files that stay in place the library has the conversion alone."""
    if sae.kept_because:
        raise errors.CannotRepresent(
            f"This SAE cannot be converted, so nothing of it would be in the library: "
            f"{sae.kept_because}.",
            solution="Import it as a copy or as hard links.",
        )
