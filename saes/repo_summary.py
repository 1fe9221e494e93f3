"""A preview as plain values, in the guide's words: for the API and for the terminal."""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from saes.errors import SaeError
from saes.formats import by_slug
from saes.formats.base import SaeInfo
from saes.preview import Preview, Row

MOST_HEADERS = 32  # read at once; of larger repositories names alone tell
AT_A_TIME = 8
HEADER_SECONDS = 15.0  # for all of them: a caller waits
LONGEST_DESCRIPTION = 500
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def of(preview: Preview) -> dict[str, Any]:
    """What the repository holds. `n_features` is read from headers, or not told."""
    listing = preview.listing
    headers = _headers(preview)
    of_sae = _files_of_saes(preview, headers)
    nothing = {"is_sae": False, "layer": None, "n_features": None}
    files = [
        {"filepath": name, "size_bytes": file.size, **of_sae.get(name, nothing)}
        for name, file in listing.files.items()
    ]
    return {
        "repo_id": listing.repo_id,
        "repo_type": listing.repo_type,
        "revision": listing.commit,
        "description": _description(preview),
        "files": files,
        "sae_files": [file for file in files if file["is_sae"]],
        "sae_paths": [row.where for row in preview.rows],
        "model_name": _model_name(headers.values()) or listing.base_model or None,
        "total_size_bytes": listing.total_size,
        "warning": str(preview.access_problem) if preview.access_problem else None,
    }


def _headers(preview: Preview) -> dict[str, SaeInfo]:
    """Headers of the SAEs, where they are few and come in time; by the SAE's place."""
    if len(preview.rows) > MOST_HEADERS or preview.access_problem:
        return dict(preview.headers)
    pool = ThreadPoolExecutor(AT_A_TIME)
    asked = {pool.submit(_header, preview, row): row.where for row in preview.rows}
    done, _ = wait(asked, HEADER_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)  # a read that hangs ends by its own timeout
    return {asked[it]: info for it in done if (info := it.result())}


def _header(preview: Preview, row: Row) -> SaeInfo | None:
    try:
        return preview.header(row.where)
    except SaeError:
        return None  # a download would say what is wrong with it


def _files_of_saes(preview: Preview, headers: dict[str, SaeInfo]) -> dict[str, dict[str, Any]]:
    tree = preview.listing.tree
    told = {}
    for row in preview.rows:
        info = headers.get(row.where)
        layer = row.layer if row.layer is not None or info is None else info.get("layer")
        width = info.get("d_sae") if info else None
        for name in by_slug(row.format).files(tree, row.where):
            told[name] = {"is_sae": True, "layer": layer, "n_features": width}
    return told


def _model_name(headers: Iterable[SaeInfo]) -> str | None:
    """The model that all of them name."""
    names = {info.get("model_name") for info in headers}
    return names.pop() if len(names) == 1 else None


def _description(preview: Preview) -> str | None:
    """The first paragraph of the repository's README, as plain text."""
    if "README.md" not in preview.listing.files:
        return None
    try:
        text = preview.source.text("README.md").replace("\r\n", "\n")
    except SaeError:
        return None
    paragraphs = (part.strip() for part in FRONT_MATTER.sub("", text, count=1).split("\n\n"))
    plain = (part for part in paragraphs if part and part[0] not in "#<|!`-*[>=")
    return " ".join(next(plain, "").split())[:LONGEST_DESCRIPTION] or None
