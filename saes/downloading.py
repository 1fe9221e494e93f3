"""How an SAE comes from the Hub: look, fetch, convert, verify. Each step is done once.

Every function may be killed at any point and called again: what is finished is found on disk.
"""

import logging
import threading
from dataclasses import dataclass
from functools import partial

from saes import arrivals, errors, services
from saes.admission import own_files
from saes.conversion import (
    conclude,
    convert_source,
    finished,
    look_at_headers,
    making,
    note_arrival,
)
from saes.fetching import Fetching
from saes.hub import Hub, HubSource, Listing, RemoteFile, RepoRef
from saes.models import Job, Sae
from saes.patience import keep_asking
from saes.progress import Reporter, Stage

log = logging.getLogger(__name__)


def download(job: Job, progress: Reporter) -> None:
    """From the Hub to a certified SAE. Fetches nothing that is already there."""
    progress.say(Stage.LOOKING, "Asking the Hub what is there")
    sae, hub = job.sae, services.hub_for(job.token)
    services.library().open_home(sae.id)
    progress.stop_if_cancelled()
    watch = Looking(progress)
    listing = _pinned_listing(sae, hub, watch)
    names = _own_files(sae, listing)
    info = keep_asking(partial(look_at_headers, sae, HubSource(hub, listing)), watch)
    files = [_with_hash(listing.files[name]) for name in names]
    fetching = Fetching(job, hub, listing, files, progress)
    fetching.begin()
    if info.missing or sae.kept_because or not _convert_meanwhile(job, fetching, progress):
        _fetch_rest(sae, fetching)
        convert_source(job, progress)


def _fetch_rest(sae: Sae, fetching: Fetching) -> None:
    fetching.run()
    note_arrival(sae)


def _convert_meanwhile(job: Job, fetching: Fetching, progress: Reporter) -> bool:
    """Convert while the files still come. False where it is to be done with whole ones instead.

    Nothing counts before every file has the hash that it must have.
    """
    sae, over = job.sae, threading.Event()
    if not fetching.rest:
        return False
    try:
        with fetching.coming(over) as folder:
            if folder is None:
                return False
            with making(sae, folder, fetching.hashes(), over) as work:
                _fetch_rest(sae, fetching)
                if fetching.was_wrong:
                    return False
                made = finished(sae, work, progress)
    except errors.SaeError as error:
        if fetching.rest:
            raise  # it is the transfer that failed
        log.warning("%s is converted anew from whole files: %s", sae.id, error)
        return False
    conclude(sae, made, {})
    return True


@dataclass(frozen=True)
class Looking:
    """Watches while the Hub is asked, before anything is fetched."""

    progress: Reporter

    def check(self) -> None:
        self.progress.stop_if_cancelled()

    def say(self, why: str) -> None:
        self.progress.say(Stage.LOOKING, why or "Asking the Hub what is there")


def _pinned_listing(sae: Sae, hub: Hub, watch: Looking) -> Listing:
    """The repository at the commit that was resolved once, however often this is called."""
    asked = RepoRef(sae.hf_repo_id, sae.hf_repo_type, sae.hf_commit or sae.hf_revision)
    if sae.hf_commit:
        return keep_asking(lambda: hub.files_at(asked), watch)
    pinned, _ = keep_asking(lambda: hub.resolve(asked), watch)
    arrivals.settle_place(sae, hf_commit=pinned.revision, hf_repo_type=pinned.type)
    return keep_asking(lambda: hub.files_at(pinned), watch)


def _own_files(sae: Sae, listing: Listing) -> list[str]:
    """If the Hub was away when it was asked for, the row may name a file of it."""
    where, names = own_files(listing.tree, sae.hf_filepath, listing.repo_id)
    if where != sae.hf_filepath:
        arrivals.settle_place(sae, hf_filepath=where)
    return names


def _with_hash(file: RemoteFile) -> RemoteFile:
    """Without the Hub's hash nothing could be verified, and nothing is fetched."""
    if not file.expected.oid:
        raise errors.HubMisbehaved(f"{file.name}: the Hub gives no valid hash.")
    return file
