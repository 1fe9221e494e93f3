"""Routes of publishing: the guide's upload, rehearsed or done, and what was published."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status

from saes import answers, publications, roles, services, vault
from saes.api.access import EDIT, who
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.requests import UploadBody, UploadsAsked
from saes.api.schemas import HUB, POSTED, Pagination, problems
from saes.models import HubToken

router = Router(tags=["publishing"])


class UploadedSae(Schema):
    sae_id: str | None
    name: str
    filepath: str


class UploadAnswer(Schema):
    id: str
    status: str
    progress: float
    job_id: str | None
    repo_id: str
    public: bool
    account: str
    saes: list[UploadedSae]
    license: str | None
    commit_message: str
    commit_hash: str | None
    repo_url: str | None
    repo_created: bool
    commit_url: str | None
    pull_request_url: str | None
    error_code: str | None
    error_message: str | None
    solution: str | None
    created_at: datetime
    verified_at: datetime | None


class UploadList(Schema):
    data: list[UploadAnswer]
    pagination: Pagination


class ToChange(Schema):
    path: str
    action: str
    size: int | None
    replaces: int | None


class RehearsalAnswer(Schema):
    """What would happen; `problems` speak against it, `warnings` do not."""

    repo_id: str
    account: str
    token_rights: str
    creates_repo: bool
    parent_commit: str | None
    public: bool
    makes_public: bool
    commit_message: str
    create_pr: bool
    license: str | None
    files: list[ToChange]
    readme: str
    passports: dict[str, dict[str, Any]]  # by folder, as far as they are known
    nothing_to_do: bool  # all of it is there already
    warnings: list[str]
    problems: list[dict[str, Any]]


class Uploading(UploadAnswer):
    """On its way: the job `job_id` publishes it."""

    job_id: str
    sae_id: str
    warnings: list[str]


@router.post(
    "saes/upload", auth=EDIT, summary="Publish SAEs", openapi_extra=DOCUMENTED,
    response={200: RehearsalAnswer, 202: Uploading, **problems(*HUB, *POSTED)},
)  # fmt: skip
@idempotent
def upload(request: HttpRequest, body: UploadBody) -> Any:
    """Publish SAEs to a repository of the Hub, in one commit. 200 tells what would happen, where
    `dry_run` asks for that, and where all of it is there already: then nothing is begun."""
    user, members = who(request), body.members
    saes = [services.sae_of(it.sae_id) for it in members]
    wish = publications.wish_for(
        saes, body.repo_id, [it.filepath for it in members], license=body.license,
        license_name=body.license_name or "", license_link=body.license_link or "",
        private=body.private, create=body.create_repo, message=body.commit_message or "",
        as_pull_request=body.create_pr,
    )  # fmt: skip
    token = _token(request, body)
    if body.dry_run:
        return Status(200, publications.rehearse(user, saes, wish, token).to_json())
    told, job = publications.publish(
        user, saes, wish, token, confirmed=body.private is False
    )  # fmt: skip
    if job is None:
        return Status(200, told.to_json())
    row = roles.publication_for(user, str(job.publication_id))
    return Status(202, {
        **answers.of_publication(row), "sae_id": saes[0].id, "warnings": told.warnings,
    })  # fmt: skip


def _token(request: HttpRequest, body: UploadBody) -> HubToken | str | None:
    if body.access_token:
        return body.access_token
    return vault.named(who(request), body.token_name) if body.token_name else None


@router.get("uploads", summary="List uploads", response={200: UploadList, **problems()})
def list_uploads(request: HttpRequest, asked: Query[UploadsAsked]) -> Any:
    """What was published, the newest first."""
    found = roles.visible_publications(who(request))
    if asked.sae_id:
        found = found.filter(saes__sae=asked.sae_id).distinct()
    page = found[asked.skip : asked.skip + asked.limit]
    return answers.page(
        [answers.of_publication(it) for it in page], asked.skip, asked.limit, found.count()
    )


@router.get(
    "uploads/{upload_id}", summary="Get an upload", response={200: UploadAnswer, **problems(404)}
)
def get_upload(request: HttpRequest, upload_id: str) -> Any:
    return answers.of_publication(roles.publication_for(who(request), upload_id))
