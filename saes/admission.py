"""What is checked before a download is accepted, so that a mistyped name is told at once."""

import time
from dataclasses import replace

from saes import services
from saes.arrivals import DownloadRequest
from saes.errors import HubMisbehaved, HubUnreachable, PathNotFound, RateLimited
from saes.formats import by_slug, find_saes
from saes.formats.base import Tree
from saes.hub import Listing
from saes.safe_names import refuse_unsafe

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
    where, names = own_files(listing.tree, wanted.where, listing.repo_id)
    if listing.gated:  # its names are public, its bytes are not
        hub = services.hub_with(token, patience=end - time.monotonic())
        hub.locate(listing, listing.files[names[0]])
    return listing, where


def own_files(tree: Tree, where: str, holder: str) -> tuple[str, list[str]]:
    """The SAE that a folder, or one of its files, stands for, and all of its own files.

    `holder`: in words, whose files these are. Raises PathNotFound, UnsafeName.
    """
    where = where.strip("/") or "."
    files = {sae.where: by_slug(sae.format).files(tree, sae.where) for sae in find_saes(tree)}
    if where not in files:
        owners = [place for place, names in files.items() if where in names]
        where = owners[0] if len(owners) == 1 else where
    if where not in files:
        raise PathNotFound(f"{holder} holds no SAE at {where!r}.")
    refuse_unsafe(files[where])
    return where, files[where]
