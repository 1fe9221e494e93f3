"""Routes of imports: look into a folder of the server, and bring SAEs in from there."""

from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status

from saes import answers, folders, imports
from saes.api.access import EDIT, who
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.requests import ImportBody, ImportManyBody, ImportWish, ScanAsked
from saes.api.schemas import POSTED, Accepted, Brought, SaeAnswer, problems
from saes.errors import BadBody
from saes.models import Sae

router = Router(tags=["imports"])
FOLDER = (403, 404, 422, 507)


class FoundSae(Schema):
    """`filepath` is the path below the root; `sae_id` that of an import from there."""

    filepath: str
    format: str
    layer: int | None
    hook_type: str | None
    width: str | None
    size_bytes: int
    sae_id: str | None
    changed: bool


class Scan(Schema):
    root: str
    path: str
    saes: list[FoundSae]
    left_out: list[str]


@router.get(
    "saes/import/scan", auth=EDIT, summary="Look into a folder",
    response={200: Scan, **problems(*FOLDER)},
)  # fmt: skip
def scan(request: HttpRequest, asked: Query[ScanAsked]) -> Any:
    """Every SAE in a folder of the server, from names and sizes.

    `left_out` are links that lead out of the root, and what is no file.
    """
    looked = imports.look(who(request), folders.place_of(asked.path))
    place = looked.place
    return {
        "root": place.root,
        "path": place.path,
        "saes": [_found(it) for it in looked.offers],
        "left_out": looked.source.left_out,
    }


def _found(it: imports.Offered) -> dict[str, Any]:
    row = it.row
    return {
        "filepath": row.where, "format": row.format, "layer": row.layer,
        "hook_type": row.hook_type or None, "width": row.width or None, "size_bytes": row.size,
        "sae_id": it.sae.id if it.sae else None, "changed": it.is_changed,
    }  # fmt: skip


@router.post(
    "saes/import/file", auth=EDIT, summary="Import an SAE from a folder", openapi_extra=DOCUMENTED,
    response={200: SaeAnswer, 202: Accepted, **problems(*FOLDER, *POSTED)},
)  # fmt: skip
@idempotent
def import_file(request: HttpRequest, body: ImportBody) -> Any:
    """Bring in the SAE at a path below one of the import roots. 200 where it is here already."""
    layer = {} if body.layer is None else {"layer": body.layer}
    wish = _wish(body, **layer)
    sae, job = imports.import_one(who(request), folders.place_of(body.file_path), wish)
    return Status(202 if job else 200, answers.of_sae(sae, job))


@router.post(
    "saes/import/folder", auth=EDIT, summary="Import several SAEs from a folder",
    openapi_extra=DOCUMENTED,
    response={200: Brought, 202: Brought, **problems(*FOLDER, *POSTED)},
)  # fmt: skip
@idempotent
def import_folder(request: HttpRequest, body: ImportManyBody) -> Any:
    """Bring in the SAEs of `filepaths`, or `all` in the folder, as one batch."""
    if body.all == bool(body.filepaths):
        raise BadBody("Give either 'filepaths', or 'all' as true.")
    user, place = who(request), folders.place_of(body.file_path)
    wheres = body.filepaths or [it.row.where for it in imports.look(user, place).offers]
    brought = imports.import_chosen(user, place, wheres, _wish(body), anyway=body.anyway)
    return Status(
        202 if brought.batch else 200, answers.of_brought(brought.batch, brought.jobs, brought.here)
    )


def _wish(body: ImportWish, **facts: Any) -> imports.Wish:
    return imports.Wish(
        name=body.name or "", description=body.description or "", format=body.format,
        model_name=body.model_name or "", placement=Sae.Placement(body.placement),
        facts={**facts, **body.facts},
    )  # fmt: skip
