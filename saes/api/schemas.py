"""The fields of answers: the guide's, and more."""

from datetime import datetime
from typing import Any

from ninja import Schema


class Problem(Schema):
    """An error: what happened, its code, and what to do next."""

    detail: str
    code: str
    solution: str
    missing_facts: list[dict[str, Any]] | None = None
    found: list[str] | None = None
    refusals: dict[str, str] | None = None
    sae_id: str | None = None


# What every route may answer: no such request, nobody known, too many, a bug, a busy database.
ALWAYS = (400, 401, 429, 500, 503)
# What sends a body: not allowed; a key or a job in the way; a body too large, no JSON, or wrong.
POSTED = (403, 409, 413, 415, 422)
HUB = (404, 502, 507)


def problems(*more: int) -> dict[frozenset[int], type[Problem]]:
    """The statuses of a route's errors, for its documentation."""
    return {frozenset({*ALWAYS, *more}): Problem}


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
    import_root: str | None
    import_path: str | None
    placement: str | None
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


class Pagination(Schema):
    skip: int
    limit: int
    total: int
    has_more: bool


class JobAnswer(Schema):
    id: str
    kind: str
    sae_id: str
    state: str
    status: str
    target: str | None
    stage: str | None
    batch_id: str | None
    publication_id: str | None
    waits_for: str | None
    wait_until: datetime | None
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


class Brought(Schema):
    """`sae_ids` are on their way now, each with its job; `already_here` were before."""

    batch_id: str | None
    jobs: list[str]
    sae_ids: list[str]
    already_here: list[str]


class BatchAnswer(Schema):
    id: str
    name: str
    hf_repo_id: str | None
    hf_commit: str | None
    created_by: str | None
    created_at: datetime
    total: int
    states: dict[str, int]
    progress: float
    bytes_done: int
    bytes_total: int
    unknown_sizes: int


class Changed(Schema):
    """How many jobs a wish for many has changed."""

    changed: int
