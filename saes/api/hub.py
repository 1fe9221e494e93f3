"""Routes of the Hub: look into a repository, and bring an SAE in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja import Router, Schema, Status

from saes import admission, jobs, preview, repo_summary, services, steering, vault
from saes.api.access import EDIT, who
from saes.api.answers import PROBLEMS, Accepted, SaeAnswer, sae_answer
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.requests import DownloadBody, PreviewBody
from saes.errors import AlreadyHere, SaeError
from saes.hub import RepoRef
from saes.models import HubToken, Sae

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


@router.post("saes/hf/preview", response={200: PreviewAnswer, **PROBLEMS}, openapi_extra=DOCUMENTED)
@idempotent
def preview_repository(request: HttpRequest, body: PreviewBody) -> Any:
    """What a repository of the Hub holds. No weight is fetched."""
    ref = RepoRef.parse(body.repo_id, body.revision or "")
    token = body.access_token or vault.reveal(vault.of(who(request)))
    asker = (who(request).pk, vault.fingerprint(token))
    return repo_summary.of(preview.look(services.hub_with(token), ref, asker))


@router.post(
    "saes/download", auth=EDIT, response={200: SaeAnswer, 202: Accepted, **PROBLEMS},
    openapi_extra=DOCUMENTED,
)  # fmt: skip
@idempotent
def download(request: HttpRequest, body: DownloadBody) -> Any:
    """Bring an SAE in. 200 where this very one is in the library already."""
    user = who(request)
    wanted = services.DownloadRequest(
        ref=RepoRef.parse(body.repo_id, body.revision or ""),
        where=body.filepath,
        name=body.name or "",
        description=body.description or "",
        model_name=body.model_name or "",
        model_id=body.model_id or "",
        facts=body.facts,
    )
    secret = body.access_token or vault.reveal(vault.of(user))
    wanted = admission.admitted(wanted, secret)
    with one_time(user, body.access_token) as token:
        try:
            job = jobs.start_download(user, wanted, token or vault.of(user))
        except AlreadyHere as there:
            return _there(user, services.sae_of(there.sae_id), token)
    return Status(202, sae_answer(services.sae_of(job.sae_id), job))


def _there(user: User, sae: Sae, token: HubToken | None) -> Status[dict[str, Any]]:
    """Asked for again: one that failed goes on, any other is answered as it is."""
    if sae.status != Sae.Status.ERROR or sae.missing_facts:
        vault.wipe(token.id if token else None)
        return Status(200, sae_answer(sae))
    job = steering.retry(user, sae, token)
    return Status(202, sae_answer(services.sae_of(sae.id), job))


@contextmanager
def one_time(user: User, secret: str | None) -> Iterator[HubToken | None]:
    """A token that came with a request, for the job that it starts; none is kept if that fails."""
    token = vault.keep_for_one_job(user, secret) if secret else None
    try:
        yield token
    except SaeError:
        vault.wipe(token.id if token else None)
        raise
