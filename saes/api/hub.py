"""Routes of the Hub: look into a repository, and bring an SAE in."""

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status

from saes import (
    answers,
    arrivals,
    batches,
    bringing,
    preview,
    repo_summary,
    roles,
    services,
    vault,
)
from saes.api.access import EDIT, who
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.requests import BatchBody, DownloadBody, PreviewBody
from saes.api.schemas import HUB, POSTED, Accepted, Brought, SaeAnswer, problems
from saes.errors import BadBody
from saes.hub import RepoRef
from saes.preview import Preview

router = Router(tags=["Hub"])


class RepoFile(Schema):
    filepath: str
    size_bytes: int
    is_sae: bool
    layer: int | None
    n_features: int | None


class PreviewAnswer(Schema):
    repo_id: str
    repo_type: str
    revision: str
    description: str | None
    files: list[RepoFile]
    sae_files: list[RepoFile]
    sae_paths: list[str]
    model_name: str | None
    total_size_bytes: int
    warning: str | None


@router.post(
    "saes/hf/preview", summary="Preview a repository", openapi_extra=DOCUMENTED,
    response={200: PreviewAnswer, **problems(*HUB, *POSTED)},
)  # fmt: skip
@idempotent
def preview_repository(request: HttpRequest, body: PreviewBody) -> Any:
    """What a repository of the Hub holds. No weight is fetched."""
    return repo_summary.of(_look(request, body))


def _look(request: HttpRequest, body: PreviewBody | BatchBody) -> Preview:
    ref = RepoRef.parse(body.repo_id, body.revision or "")
    token = body.access_token or vault.reveal(vault.of(who(request)))
    asker = (who(request).pk, vault.fingerprint(token))
    return preview.look(services.hub_with(token), ref, asker)


@router.post(
    "saes/download", auth=EDIT, summary="Download an SAE", openapi_extra=DOCUMENTED,
    response={200: SaeAnswer, 202: Accepted, **problems(*HUB, *POSTED)},
)  # fmt: skip
@idempotent
def download(request: HttpRequest, body: DownloadBody) -> Any:
    """Bring an SAE in. 200 where this very one is in the library already."""
    wanted = arrivals.DownloadRequest(
        ref=RepoRef.parse(body.repo_id, body.revision or ""),
        where=body.filepath,
        name=body.name or "",
        description=body.description or "",
        model_name=body.model_name or "",
        model_id=body.model_id or "",
        facts=body.facts,
    )
    sae, job = bringing.download(who(request), wanted, body.access_token)
    return Status(202 if job else 200, answers.of_sae(sae, job))


@router.post(
    "saes/download/batch", auth=EDIT, summary="Download several SAEs", openapi_extra=DOCUMENTED,
    response={200: Brought, 202: Brought, **problems(*HUB, *POSTED)},
)  # fmt: skip
@idempotent
def download_batch(request: HttpRequest, body: BatchBody) -> Any:
    """Bring in the SAEs of `filepaths`, or `all` of the repository, as one batch.

    200 without a batch where all of them are here, or on their way. `anyway` starts also what the
    disk has no room for by now.
    """
    if body.all == bool(body.filepaths):
        raise BadBody("Give either 'filepaths', or 'all' as true.")
    roles.require(who(request), roles.ADD)
    found = _look(request, body)
    rows = found.rows if body.all else batches.named(found, body.filepaths or [])
    brought = batches.bring_in(who(request), found, rows, _order(body))
    return Status(
        202 if brought.batch else 200, answers.of_brought(brought.batch, brought.jobs, brought.here)
    )


def _order(body: BatchBody) -> batches.Order:
    named = RepoRef.parse(body.repo_id, body.revision or "").revision
    return batches.Order(
        name=body.name or "", model_name=body.model_name or "", asked=named,
        secret=body.access_token, anyway=body.anyway,
    )  # fmt: skip
