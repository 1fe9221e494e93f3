"""Routes of the Hub: look into a repository, and bring an SAE in."""

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status

from saes import answers, preview, repo_summary, services, steering, vault
from saes.api.access import EDIT, who
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.requests import DownloadBody, PreviewBody
from saes.api.schemas import HUB, POSTED, Accepted, SaeAnswer, problems
from saes.hub import RepoRef

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
    ref = RepoRef.parse(body.repo_id, body.revision or "")
    token = body.access_token or vault.reveal(vault.of(who(request)))
    asker = (who(request).pk, vault.fingerprint(token))
    return repo_summary.of(preview.look(services.hub_with(token), ref, asker))


@router.post(
    "saes/download", auth=EDIT, summary="Download an SAE", openapi_extra=DOCUMENTED,
    response={200: SaeAnswer, 202: Accepted, **problems(*HUB, *POSTED)},
)  # fmt: skip
@idempotent
def download(request: HttpRequest, body: DownloadBody) -> Any:
    """Bring an SAE in. 200 where this very one is in the library already."""
    wanted = services.DownloadRequest(
        ref=RepoRef.parse(body.repo_id, body.revision or ""),
        where=body.filepath,
        name=body.name or "",
        description=body.description or "",
        model_name=body.model_name or "",
        model_id=body.model_id or "",
        facts=body.facts,
    )
    sae, job = steering.download(who(request), wanted, body.access_token)
    return Status(202 if job else 200, answers.of_sae(sae, job))
