"""The route of what takes the disk."""

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from saes import services, space, uploaded
from saes.api.schemas import problems

router = Router(tags=["library"])


class Storage(Schema):
    """Bytes. What several SAEs share is counted once; `shared_bytes` is what that saves."""

    free_bytes: int
    usable_bytes: int
    promised_bytes: int
    other_bytes: int
    library_bytes: int
    source_bytes: int
    native_bytes: int
    export_bytes: int
    unfinished_bytes: int
    kept_bytes: int
    uploads_bytes: int
    shared_bytes: int


@router.get("storage", summary="What takes the disk", response={200: Storage, **problems(409, 507)})
def storage(request: HttpRequest) -> Any:
    """What the disk is taken by, by the records of the library."""
    shelf = services.library()
    shelf.require_there()
    sums = space.sums()
    kept, waiting = sum(folder.size for folder in shelf.kept()), uploaded.bytes_on_disk()
    disk = space.disk(sums, kept, waiting)
    sizes = {it.name: it.size for it in (*disk.whole, *disk.library)}
    return {
        "free_bytes": disk.free, "usable_bytes": disk.total, "library_bytes": disk.ours,
        "promised_bytes": sizes["promised"], "other_bytes": sizes["other"],
        "source_bytes": sums.source, "native_bytes": sums.native, "export_bytes": sums.export,
        "unfinished_bytes": sums.parts, "kept_bytes": sizes["kept"], "shared_bytes": sums.shared,
        "uploads_bytes": sizes["uploads"],
    }  # fmt: skip
