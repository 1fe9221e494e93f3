"""Routes of the library: list, read, edit and delete SAEs."""

import time
from typing import Any

from django.db import OperationalError
from django.http import HttpRequest
from ninja import Query, Router, Schema, Status

from saes import answers, queries, services, steering
from saes.api.access import EDIT, who
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.middleware import PLAIN
from saes.api.requests import DeleteAsked, DeleteBody, EditBody, ListAsked, given
from saes.api.schemas import POSTED, Accepted, Pagination, SaeAnswer, problems
from saes.errors import Conflict, SaeError

router = Router(tags=["library"])
COLUMNS = {"n_features": "d_sae", "d_model": "d_in"}
DELETE_SECONDS = 120.0  # a worker may be waited for at each, and a thousand can be asked for


class SaeList(Schema):
    data: list[SaeAnswer]
    pagination: Pagination


@router.get("saes", summary="List SAEs", response={200: SaeList, **problems()})
def list_saes(request: HttpRequest, asked: Query[ListAsked]) -> Any:
    """SAEs of the library, a part at a time."""
    filters = queries.Filters(
        search=asked.search, source=asked.source, status=asked.status,
        model_name_part=asked.model_name,
    )  # fmt: skip
    found = queries.narrowed(filters)
    column = COLUMNS.get(asked.sort_by, asked.sort_by)
    sign = "-" if asked.order == "desc" else ""
    page = found.order_by(sign + column, sign + "id")[asked.skip : asked.skip + asked.limit]
    return answers.page(
        [answers.of_sae(sae) for sae in page], asked.skip, asked.limit, found.count()
    )


class DeletedMany(Schema):
    deleted_count: int
    failed_count: int
    deleted_ids: list[str]
    failed_ids: list[str]
    errors: dict[str, str]
    message: str


@router.post(
    "saes/delete", auth=EDIT, summary="Delete several SAEs", openapi_extra=DOCUMENTED,
    response={200: DeletedMany, **problems(*POSTED)},
)  # fmt: skip
@idempotent
def delete_saes(request: HttpRequest, body: DeleteBody) -> Any:
    """Delete several SAEs, each by itself: what fails does not stop the others."""
    deleted, errors = [], {}
    end = time.monotonic() + DELETE_SECONDS
    for sae_id in dict.fromkeys(body.sae_ids):
        try:
            if time.monotonic() > end:
                raise Conflict("There was no time left for it; ask again.")
            sae = services.sae_of(sae_id)
            steering.delete_sae(who(request), sae, keep_files=not body.delete_files)
            deleted.append(sae_id)
        except SaeError as error:
            errors[sae_id] = str(error)
        except OperationalError:
            errors[sae_id] = str(PLAIN[503])
    failed = f", {len(errors)} failed" if errors else ""
    return {
        "deleted_count": len(deleted),
        "failed_count": len(errors),
        "deleted_ids": deleted,
        "failed_ids": list(errors),
        "errors": errors,
        "message": f"{len(deleted)} deleted{failed}.",
    }


# Below here `saes/…` is an id: an address with a name of its own stands above.


@router.get("saes/{sae_id}", summary="Get an SAE", response={200: SaeAnswer, **problems(404)})
def get_sae(request: HttpRequest, sae_id: str) -> Any:
    return answers.of_sae(services.sae_of(sae_id))


@router.patch(
    "saes/{sae_id}", auth=EDIT, summary="Edit an SAE",
    response={200: SaeAnswer, 202: Accepted, **problems(404, *POSTED)},
)  # fmt: skip
def edit_sae(request: HttpRequest, sae_id: str, body: EditBody) -> Any:
    """Change what is said of an SAE. 202 where a fact asks for another conversion."""
    sae, changed = services.sae_of(sae_id), given(body)
    facts = changed.pop("facts", None)
    job = steering.state_facts(who(request), sae, facts) if facts else None
    services.edit(sae, **{name: value for name, value in changed.items() if value is not None})
    sae = services.sae_of(sae_id)
    return Status(202, answers.of_sae(sae, job)) if job else Status(200, answers.of_sae(sae))


class Deleted(Schema):
    id: str
    deleted: bool
    kept_files: str | None
    message: str


@router.delete(
    "saes/{sae_id}", auth=EDIT, summary="Delete an SAE",
    response={200: Deleted, **problems(403, 404, 409, 422, 507)},
)  # fmt: skip
def delete_sae(request: HttpRequest, sae_id: str, asked: Query[DeleteAsked]) -> Any:
    """Delete an SAE. With `delete_files=false` its files move to the folder `kept/`."""
    sae = services.sae_of(sae_id)
    kept = steering.delete_sae(who(request), sae, keep_files=not asked.delete_files)
    message = f"Deleted {sae.name}." + (f" Its files are in {kept}." if kept else "")
    return {"id": sae_id, "deleted": True, "kept_files": kept or None, "message": message}
