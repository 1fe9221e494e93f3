"""The Hugging Face cache of this machine: what other programs have downloaded already."""

import stat
from pathlib import Path

import huggingface_hub as hf
from huggingface_hub.file_download import repo_folder_name

from saes.hub.refs import Listing, RemoteFile


def in_cache(listing: Listing, file: RemoteFile) -> Path | None:
    """The cache's own copy of a file, by its hash and size. Its bytes are still to be checked."""
    folder = repo_folder_name(repo_id=listing.repo_id, repo_type=listing.repo_type)
    path = Path(hf.constants.HF_HUB_CACHE) / folder / "blobs" / file.expected.oid
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return None
    return path if stat.S_ISREG(found.st_mode) and found.st_size == file.size else None
