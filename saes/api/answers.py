"""Rows as answers: the guide's fields, and more."""

from datetime import datetime
from typing import Any

from ninja import Schema

from saes import events
from saes.errors import all_errors
from saes.models import Job, Sae


class Problem(Schema):
    """An error: what happened, its code, and what to do next."""

    detail: str
    code: str
    solution: str
    missing_facts: list[dict[str, Any]] | None = None
    found: list[str] | None = None
    refusals: dict[str, str] | None = None
    sae_id: str | None = None


PROBLEMS = {frozenset(kind.status for kind in all_errors()): Problem}


class SaeAnswer(Schema):
    id: str
    name: str
    description: str
    notes: str
    tags: list[str]
    source: str
    status: str
    hf_repo_id: str | None
    hf_filepath: str | None
    hf_revision: str | None
    hf_commit: str | None
    training_id: str | None
    model_name: str | None
    model_id: str | None
    layer: int | None
    hook_name: str | None
    hook_type: str | None
    n_features: int | None
    d_model: int | None
    architecture: str | None
    format: str | None
    local_path: str | None
    file_size_bytes: int
    progress: float
    error_message: str | None
    error_code: str | None
    solution: str | None
    missing_facts: list[dict[str, Any]]
    sae_metadata: dict[str, Any]
    job_id: str | None
    created_at: datetime
    updated_at: datetime
    downloaded_at: datetime | None


class Accepted(SaeAnswer):
    """An SAE on its way: `job_id` is the job that brings it in."""

    job_id: str


def sae_answer(sae: Sae, job: Job | None = None) -> dict[str, Any]:
    """`job`: the one that a request just started; else the newest that brought the SAE in."""
    newest = job or sae.newest_job
    return {
        "id": sae.id,
        "name": sae.name,
        "description": sae.description,
        "notes": sae.notes,
        "tags": sae.tags,
        "source": sae.source,
        "status": sae.status,
        "hf_repo_id": sae.hf_repo_id or None,
        "hf_filepath": sae.hf_filepath or None,
        "hf_revision": sae.hf_revision or None,
        "hf_commit": sae.hf_commit or None,
        "training_id": None,
        "model_name": sae.model_name or None,
        "model_id": sae.model_id or None,
        "layer": sae.layer,
        "hook_name": sae.hook_name or None,
        "hook_type": sae.hook_type or None,
        "n_features": sae.d_sae,
        "d_model": sae.d_in,
        "architecture": sae.architecture or None,
        "format": sae.format or None,
        "local_path": sae.local_path or None,
        "file_size_bytes": sae.file_size_bytes,
        "progress": events.progress_of(sae),
        "error_message": sae.error_message or None,
        "error_code": sae.error_code or None,
        "solution": sae.error_solution or None,
        "missing_facts": sae.missing_facts,
        "sae_metadata": {
            "facts": sae.facts,
            "stated": sae.given_facts,
            "tensors": sae.tensors,
            "certificate": sae.certificate,
            "kept_because": sae.kept_because or None,
        },
        "job_id": newest.id if newest else None,
        "created_at": sae.created_at,
        "updated_at": sae.updated_at,
        "downloaded_at": sae.downloaded_at,
    }


class Pagination(Schema):
    skip: int
    limit: int
    total: int
    has_more: bool


def pagination(skip: int, limit: int, total: int) -> dict[str, Any]:
    return {"skip": skip, "limit": limit, "total": total, "has_more": skip + limit < total}


class JobAnswer(Schema):
    id: str
    kind: str
    sae_id: str
    state: str
    status: str
    target: str | None
    stage: str | None
    message: str
    progress: float
    file: str | None
    file_index: int
    file_count: int
    bytes_done: int
    bytes_total: int
    bytes_per_second: float
    seconds_left: float | None
    attempt: int
    created_by: str | None
    error_code: str | None
    error_message: str | None
    solution: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


def job_answer(job: Job) -> dict[str, Any]:
    """`state` is the job's own word, `status` the guide's."""
    same = ("id", "kind", "sae_id", "state", "message", "file_index", "file_count", "bytes_done",
            "bytes_total", "bytes_per_second", "seconds_left", "attempt", "created_at",
            "started_at", "ended_at")  # fmt: skip
    return {
        **{name: getattr(job, name) for name in same},
        "status": job.sae_status(),
        "target": job.target or None,
        "stage": job.stage or None,
        "progress": round(job.progress, 1),
        "file": job.file_name or None,
        "created_by": job.created_by.get_username() if job.created_by else None,
        "error_code": job.error_code or None,
        "error_message": job.error_message or None,
        "solution": job.error_solution or None,
    }
