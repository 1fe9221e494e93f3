"""Rows as plain values, with the names that the API gives their fields: routes and commands."""

from collections.abc import Sequence
from typing import Any

from saes import events
from saes.activity import Summary
from saes.errors import NotFound
from saes.models import Batch, HubToken, Job, Publication, Sae, Training
from saes.progress import Stage

GONE = "The SAE that it began with was deleted."


def of_sae(sae: Sae, job: Job | None = None) -> dict[str, Any]:
    """`job`: the one that a request just started; else the newest that brought the SAE in.

    A fast worker may have it already: who started it is told the state that it started in.
    """
    return {**_identity(sae), **_origin(sae), **_told(sae), **_state(sae, job), **_times(sae)}


def _identity(sae: Sae) -> dict[str, Any]:
    """What people call it."""
    return {name: getattr(sae, name) for name in ("id", "name", "description", "notes", "tags")}


def _origin(sae: Sae) -> dict[str, Any]:
    """Where it came from, and where its files are now."""
    return {
        "source": sae.source,
        "hf_repo_id": sae.hf_repo_id or None,
        "hf_filepath": sae.hf_filepath or None,
        "hf_revision": sae.hf_revision or None,
        "hf_commit": sae.hf_commit or None,
        "import_root": sae.import_root or None,
        "import_path": sae.import_path or None,
        "placement": sae.placement or None,
        "training_id": sae.trained.get("training_id"),
        "local_path": sae.local_path or None,
        "file_size_bytes": sae.file_size_bytes,
    }


def _told(sae: Sae) -> dict[str, Any]:
    """What it is, by its files and its users."""
    return {
        "model_name": sae.model_name or None,
        "model_id": sae.model_id or None,
        "layer": sae.layer,
        "hook_name": sae.hook_name or None,
        "hook_type": sae.hook_type or None,
        "n_features": sae.d_sae,
        "d_model": sae.d_in,
        "architecture": sae.architecture or None,
        "format": sae.format or None,
        "missing_facts": sae.missing_facts,
        "sae_metadata": {
            "facts": sae.facts,
            "stated": sae.given_facts,
            "tensors": sae.tensors,
            "certificate": sae.certificate,
            "kept_because": sae.kept_because or None,
            "training": sae.trained or None,
        },
    }


def _state(sae: Sae, job: Job | None) -> dict[str, Any]:
    newest = job or sae.newest_job
    return {
        "status": job.sae_status() if job else sae.status,
        "progress": round(job.progress, 1) if job else events.progress_of(sae),
        "error_message": sae.error_message or None,
        "error_code": sae.error_code or None,
        "solution": sae.error_solution or None,
        "job_id": newest.id if newest else None,
    }


def _times(sae: Sae) -> dict[str, Any]:
    return {name: getattr(sae, name) for name in ("created_at", "updated_at", "downloaded_at")}


def of_training(training: Training, imported: int) -> dict[str, Any]:
    """A run; where its folder lies is nobody's business who asks over the network."""
    same = ("id", "name", "status", "datasets", "hyperparameters", "current_step", "total_steps",
            "final_loss", "final_l0", "started_at", "completed_at", "created_at")  # fmt: skip
    return {
        **{name: getattr(training, name) for name in same},
        "model_name": training.model_name or None,
        "imported": imported,
    }


def of_brought(batch: Batch | None, jobs: Sequence[Job], here: Sequence[Sae]) -> dict[str, Any]:
    """What a wish for many started, and what was there before."""
    return {
        "batch_id": batch.id if batch else None,
        "jobs": [job.id for job in jobs],
        "sae_ids": [job.sae_id for job in jobs],
        "already_here": [sae.id for sae in here],
    }


def of_job(job: Job) -> dict[str, Any]:
    """`state` is the job's own word, `status` the guide's."""
    same = ("id", "kind", "sae_id", "state", "message", "file_index", "file_count", "bytes_done",
            "bytes_total", "bytes_per_second", "seconds_left", "attempt", "created_at",
            "started_at", "ended_at", "batch_id", "publication_id", "wait_until")  # fmt: skip
    return {
        **{name: getattr(job, name) for name in same},
        "status": _status(job),
        "target": job.target or None,
        "stage": job.stage or None,
        "waits_for": job.waits_for or None,
        "progress": round(job.progress, 1),
        "file": job.file_name or None,
        "created_by": job.created_by.get_username() if job.created_by else None,
        "error_code": job.error_code or None,
        "error_message": job.error_message or None,
        "solution": job.error_solution or None,
    }


def of_publication(publication: Publication) -> dict[str, Any]:
    """What was published, and how its newest job stands."""
    job = publication.jobs.first()  # newest first
    same = ("id", "repo_id", "public", "account", "created_at", "verified_at")
    return {
        **{name: getattr(publication, name) for name in same},
        "status": _uploaded(publication, job),
        "progress": round(job.progress, 1) if job else 0.0,
        "job_id": job.id if job else None,
        "saes": [
            {"sae_id": it.sae_id, "name": it.name, "filepath": it.folder}
            for it in publication.saes.all()
        ],
        "license": publication.license or None,
        "commit_message": publication.message,
        "commit_hash": publication.commit or None,
        "repo_url": publication.commit_url.partition("/commit/")[0] or None,
        "repo_created": publication.created,
        "commit_url": publication.commit_url or None,
        "pull_request_url": publication.pull_request or None,
        **_went_wrong(publication, job),
    }


def _went_wrong(publication: Publication, job: Job | None) -> dict[str, str | None]:
    names = ("error_code", "error_message", "solution")
    if job:
        told = (job.error_code, job.error_message, job.error_solution)
    elif publication.verified_at:
        told = ("", "", "")
    else:
        told = (NotFound.code, GONE, "Rehearse it again with the others.")
    return {name: it or None for name, it in zip(names, told, strict=True)}


def _uploaded(publication: Publication, job: Job | None) -> str:
    """Its jobs go with the SAE that they belong to, and leave the history of the others."""
    if job is None:
        return "ready" if publication.verified_at else "error"
    return events.upload_status(job)


def _status(job: Job) -> str:
    """What leaves the SAE's own status alone has a word more than that."""
    if job.kind == Job.Kind.PUBLISH:
        return events.upload_status(job)
    checks = job.state == Job.State.RUNNING and job.stage == Stage.VERIFYING
    return "verifying" if checks and not job.brings_in else job.sae_status()


def of_batch(batch: Batch, whole: Summary) -> dict[str, Any]:
    """Each of its SAEs counts once, by its newest job."""
    return {
        "id": batch.id,
        "name": batch.name,
        "hf_repo_id": batch.hf_repo_id or None,
        "hf_commit": batch.hf_commit or None,
        "created_by": batch.created_by.get_username() if batch.created_by else None,
        "created_at": batch.created_at,
        "total": whole.total,
        "states": whole.states,
        "progress": round(whole.progress, 1),
        "bytes_done": whole.bytes_done,
        "bytes_total": whole.bytes_total,
        "unknown_sizes": whole.unknown,
    }


def pagination(skip: int, limit: int, total: int) -> dict[str, Any]:
    return {"skip": skip, "limit": limit, "total": total, "has_more": skip + limit < total}


def page(data: list[dict[str, Any]], skip: int, limit: int, total: int) -> dict[str, Any]:
    """A part of a list."""
    return {"data": data, "pagination": pagination(skip, limit, total)}


def of_hub_token(row: HubToken) -> dict[str, Any]:
    """What there is to tell of a stored token; the token itself is nowhere in it."""
    known = row.identity or {"name": None, "role": None, "orgs": {}, "scopes": []}
    return {
        "name": row.name,
        "last_four": row.last_four,
        "usual": row.is_usual,
        "of_server": row.owner_id is None,
        "account": known["name"],
        "role": known["role"],
        "orgs": known["orgs"],
        "scopes": known["scopes"],
        "tested_at": row.tested_at,
        "test_error": row.test_error or None,
        "last_used_at": row.last_used_at,
    }
