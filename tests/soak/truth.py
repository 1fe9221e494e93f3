"""What must be so in the end, read from the disk and the database, not from the product."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from saes.storage import MARK
from tests.apps import App
from tests.soak.world import Wanted, rows


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong(app: App, wanted: Sequence[Wanted]) -> Iterator[str]:
    """Everything that is not as it should be, in words; nothing where all is well."""
    saes = {
        (sae["hf_repo_id"], sae["hf_filepath"]): sae for sae in rows(app, "SELECT * FROM saes_sae")
    }
    yield from _leftovers(app, {str(sae["id"]) for sae in saes.values()})
    if len(saes) != len(wanted):
        yield f"{len(saes)} SAEs, not {len(wanted)}"
    for it in wanted:
        sae = saes.get((it.repo, it.where))
        if sae is None:
            yield f"{it.repo} {it.where} is not there"
            continue
        yield from (f"{sae['id']} ({it.repo} {it.where}): {what}" for what in _of_one(app, sae, it))


def _of_one(app: App, sae: dict[str, Any], wanted: Wanted) -> Iterator[str]:
    if (sae["status"], sae["error_code"]) != ("ready", ""):
        yield f"is {sae['status']}: {sae['error_message']}"
        return
    if sae["hf_commit"] != wanted.commit:
        yield "has another commit"
    home = app.data_dir / "saes" / sae["id"]
    found = rows(app, f"SELECT * FROM saes_saefile WHERE sae_id = '{sae['id']}'")
    recorded = {str(file["path"]): file for file in found}
    there = {it.relative_to(home).as_posix() for it in home.rglob("*") if not it.is_dir()}
    if there != set(recorded):
        yield f"on disk and not recorded, or the other way round: {there ^ set(recorded)}"
        return
    for path, file in recorded.items():
        if sha256(home / path) != file["sha256"] or (home / path).stat().st_size != file["size"]:
            yield f"{path} is not as it was recorded"
    for name, true in wanted.files.items():
        if recorded.get(f"source/{name}", {}).get("sha256") != sha256(true):
            yield f"{name} is not the Hub's"
    yield from _certificate(json.loads(sae["certificate"] or "{}"), recorded)


def _certificate(told: dict[str, Any], recorded: dict[str, dict[str, Any]]) -> Iterator[str]:
    if not told.get("passed"):
        yield "has no certificate"
        return
    for folder, hashes in (("source", told["source_files"]), ("native", told["target_files"])):
        own = {
            p.removeprefix(f"{folder}/"): f["sha256"]
            for p, f in recorded.items()
            if p.startswith(folder)
        }
        if hashes != own:
            yield f"its certificate is of other files in {folder}"


def _leftovers(app: App, ids: set[str]) -> Iterator[str]:
    data = app.data_dir
    folders = {it.name for it in (data / "saes").iterdir()} - {MARK}
    if folders != ids:
        yield f"folders without an SAE, or the other way round: {folders ^ ids}"
    for pattern in ("saes/*/parts/*", "saes/*/*.draft", "saes/**/*.link", "run/**/*.tmp"):
        yield from (f"left over: {it.relative_to(data)}" for it in data.glob(pattern))
    states = rows(app, "SELECT DISTINCT state FROM saes_job")
    if stuck := {row["state"] for row in states} & {"queued", "running", "paused"}:
        yield f"jobs that are {stuck}"
    crashed = rows(app, "SELECT id, traceback FROM saes_job WHERE state = 'crashed'")
    yield from (f"{row['id']} crashed: {row['traceback'][-600:]}" for row in crashed)
    back = rows(app, "SELECT id FROM saes_job WHERE progress < 0 OR bytes_done > bytes_total")
    yield from (f"{row['id']} has more bytes than there are" for row in back)
