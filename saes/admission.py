"""What is checked before a download is accepted, so that a mistyped name is told at once."""

import time
from dataclasses import replace

from saes import services
from saes.errors import HubMisbehaved, HubUnreachable, PathNotFound, RateLimited
from saes.formats import Found, by_slug, find_saes
from saes.hub import Listing
from saes.safe_names import refuse_unsafe
from saes.services import DownloadRequest

CHECK_SECONDS = 8.0  # a caller waits for it


def admitted(wanted: DownloadRequest, token: str | None) -> DownloadRequest:
    """The same request at the commit and the SAE that it means now.

    Raises what the Hub says of the repository, and PathNotFound. Where the Hub is limited, slow or
    away the request comes back as it is: its job finds out itself.
    """
    try:
        listing, where = _checked(wanted, token)
    except (RateLimited, HubUnreachable, HubMisbehaved):
        return wanted
    ref = replace(wanted.ref, type=listing.repo_type, revision=listing.commit)
    return replace(wanted, ref=ref, where=where, asked=wanted.ref.revision)


def _checked(wanted: DownloadRequest, token: str | None) -> tuple[Listing, str]:
    """Asked of a model and, if there is none, of a dataset: all of it within CHECK_SECONDS."""
    end = time.monotonic() + CHECK_SECONDS
    pinned, info = services.hub_with(token, patience=CHECK_SECONDS / 2).resolve(wanted.ref)
    hub = services.hub_with(token, patience=end - time.monotonic())
    listing = hub.listing(pinned, info)
    where, names = own_files(listing, wanted.where)
    if listing.gated:  # its names are public, its bytes are not
        hub = services.hub_with(token, patience=end - time.monotonic())
        hub.locate(listing, listing.files[names[0]])
    return listing, where


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
