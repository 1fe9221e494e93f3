"""What is checked before a download is accepted, so that a mistyped name is told at once."""

from dataclasses import replace

from saes import services
from saes.errors import HubMisbehaved, HubUnreachable, PathNotFound, RateLimited
from saes.formats import Found, by_slug, find_saes
from saes.hub import Hub, Listing
from saes.safe_names import refuse_unsafe
from saes.services import DownloadRequest

CHECK_SECONDS = 8.0  # a caller waits for it


def admitted(wanted: DownloadRequest, token: str | None) -> DownloadRequest:
    """The same request at the commit and the SAE that it means now.

    Raises what the Hub says of the repository, and PathNotFound. Where the Hub is limited, slow or
    away the request comes back as it is: its job finds out itself.
    """
    hub = services.hub_with(token, patience=CHECK_SECONDS)
    try:
        listing = _listing(hub, wanted)
    except (RateLimited, HubUnreachable, HubMisbehaved):
        return wanted
    ref = replace(wanted.ref, type=listing.repo_type, revision=listing.commit)
    where, _ = own_files(listing, wanted.where)
    return replace(wanted, ref=ref, where=where, asked=wanted.ref.revision)


def _listing(hub: Hub, wanted: DownloadRequest) -> Listing:
    pinned, _ = hub.resolve(wanted.ref)
    return hub.files_at(pinned)


def own_files(listing: Listing, where: str) -> tuple[str, list[str]]:
    """The SAE that a folder, or one of its files, stands for, and all of its own files.

    Raises PathNotFound, UnsafeName.
    """
    where = where.strip("/") or "."
    files = {sae.where: _files(listing, sae) for sae in find_saes(listing.tree)}
    if where not in files:
        owners = [place for place, names in files.items() if where in names]
        where = owners[0] if len(owners) == 1 else where
    if where not in files:
        raise PathNotFound(f"{listing.repo_id} holds no SAE at {where!r}.")
    refuse_unsafe(files[where])
    return where, files[where]


def _files(listing: Listing, sae: Found) -> list[str]:
    return by_slug(sae.format).files(listing.tree, sae.where)
