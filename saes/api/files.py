"""Routes of an SAE's files: which there are, convert it to another format, download."""

from typing import Annotated, Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from ninja import Query, Router, Schema, Status
from pydantic import Field

from saes import answers, bundles, exporting, services
from saes.api.access import EDIT, who
from saes.api.fields import Among, Asked, Body, Place, example
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.schemas import POSTED, JobAnswer, problems
from saes.api.sending import send
from saes.bundles import Bundle
from saes.contents import OneFile, Zip
from saes.errors import NotFound

router = Router(tags=["files"])


class ConvertBody(Body):
    model_config = example(format="saelens")

    format: Annotated[str, Among(bundles.WRITABLE)]


class DownloadAsked(Asked):
    format: Annotated[str, Among(bundles.NAMES)] = bundles.ORIGINAL
    file: Place = Field("", description="One file by its path; without it a zip of all.")


class FileAnswer(Schema):
    path: str
    size_bytes: int
    sha256: str


class FormatAnswer(Schema):
    format: str
    label: str
    available: bool
    files: list[FileAnswer]
    total_bytes: int


class FormatList(Schema):
    sae_id: str
    formats: list[FormatAnswer]


def format_answer(bundle: Bundle) -> dict[str, Any]:
    return {
        "format": bundle.format,
        "label": bundle.label,
        "available": bundle.available,
        "files": [
            {"path": name, "size_bytes": row.size, "sha256": row.sha256}
            for name, row in bundle.files.items()
        ],
        "total_bytes": bundle.total_bytes,
    }


@router.get(
    "saes/{sae_id}/files", summary="List files", response={200: FormatList, **problems(404)}
)
def list_files(request: HttpRequest, sae_id: str) -> Any:
    """The original and each format that can hold the SAE, with the files that are there."""
    found = bundles.bundles_of(services.sae_of(sae_id))
    return {"sae_id": sae_id, "formats": [format_answer(bundle) for bundle in found]}


@router.post(
    "saes/{sae_id}/convert", auth=EDIT, summary="Convert an SAE", openapi_extra=DOCUMENTED,
    response={200: FormatAnswer, 202: JobAnswer, **problems(404, *POSTED)},
)  # fmt: skip
@idempotent
def convert(request: HttpRequest, sae_id: str, body: ConvertBody) -> Any:
    """Make the SAE's files in another format, beside its own. 200 where they are there already."""
    bundle, job = exporting.prepare(who(request), services.sae_of(sae_id), body.format)
    return Status(202, answers.of_job(job)) if job else Status(200, format_answer(bundle))


_BYTES: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in (OneFile.media_type, Zip.media_type)
}
_RANGE = {"Content-Range": {"schema": {"type": "string"}}}
BINARY: dict[str, Any] = {
    "parameters": [
        {"in": "header", "name": name, "required": False, "schema": {"type": "string"},
         "description": said}
        for name, said in (
            ("Range", "One range of bytes, such as `bytes=1000-`. Anything else is ignored."),
            ("If-Range", "The ETag of what is there already: if it differs, all is sent."),
        )
    ],
    "responses": {
        200: {"description": "All of it", "content": _BYTES},
        206: {"description": "The part that was asked for", "content": _BYTES, "headers": _RANGE},
        416: {"headers": _RANGE},
    },
}  # fmt: skip


@router.get(
    "saes/{sae_id}/download", summary="Download files", openapi_extra=BINARY, url_name="download",
    response=problems(404, 409, 416, 422),
)  # fmt: skip
def download(request: HttpRequest, sae_id: str, asked: Query[DownloadAsked]) -> HttpResponseBase:
    """One file of the SAE, or a zip of all in one format. An interrupted download can go on."""
    return _download(request, sae_id, asked)


@router.api_operation(["HEAD"], "saes/{sae_id}/download", include_in_schema=False)
def about_download(
    request: HttpRequest, sae_id: str, asked: Query[DownloadAsked]
) -> HttpResponseBase:
    return _download(request, sae_id, asked)


def _download(request: HttpRequest, sae_id: str, asked: DownloadAsked) -> HttpResponseBase:
    bundle = bundles.to_download(services.sae_of(sae_id), asked.format)
    if not asked.file:
        return send(request, Zip(bundle))
    row = bundle.files.get(asked.file)
    if row is None:
        raise NotFound(f"There is no file of this name in {bundle.label}.")
    return send(request, OneFile(row))
