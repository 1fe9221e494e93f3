"""What a rehearsal warns of: nothing of it keeps anybody from publishing."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath

from saes import parcels
from saes.drafting import Draft, Target, Wish
from saes.errors import AccessDenied, RepositoryNotFound
from saes.hub import Hub, Identity, RepoRef, front_matter
from saes.models import Sae
from saes.parcels import WEIGHTS, Piece, entry_of

MANY_FILES = 100  # of one commit: above it, the Hub takes its time
MOST_SOURCES = 10  # repositories that are asked for, whether everybody can see them
FILES = {".csv", ".json", ".jsonl", ".parquet", ".txt", ".zst", ".arrow", ".safetensors", ".pt"}


def cautions_of(
    saes: Sequence[Sae], wish: Wish, target: Target, draft: Draft, hub: Hub, identity: Identity
) -> Iterator[str]:
    """Sentences. Raises BadCard, and what the Hub says."""
    yield from _about_the_card(saes, wish, target, draft)
    yield from _about_files(wish, target, draft)
    yield from _about_names(saes, wish, hub)
    yield from _proposed(wish, target, hub, identity)


def _about_the_card(saes: Sequence[Sae], wish: Wish, target: Target, draft: Draft) -> Iterator[str]:
    data = front_matter.read(draft.readme)
    if not data.get("license"):
        yield "No license is named: nobody knows what they may do with these SAEs."
    before = front_matter.read(target.readme)
    if before.get("license") and wish.license and before["license"] != wish.license:
        yield f"The license of the repository changes from {before['license']} to {wish.license}."
    if data.get("library_name") != "saelens":
        yield f"The card keeps library_name {data.get('library_name')!r}: the Hub shows no SAELens."
    unknown = sorted({sae.model_name or "unknown" for sae in saes} - _known(saes))
    if unknown:
        yield f"The Hub's name of the model ({', '.join(unknown)}) is not known: no link to it."
    if foreign := _sources(saes, wish):
        yield f"Files come from {', '.join(foreign)}: does its license let you publish them?"


def _about_files(wish: Wish, target: Target, draft: Draft) -> Iterator[str]:
    there = target.listing.files if target.listing else {}
    replaced = sum(
        it.name in there and not it.is_at(there[it.name])
        for it in draft.pieces if it.content is not None and it.name.endswith(f"/{WEIGHTS}")
    )  # fmt: skip
    if replaced:
        yield f"Weights that are there are replaced in {replaced:,} folder(s)."
    if len(draft.pieces) > MANY_FILES:
        yield f"{len(draft.pieces):,} files are a large commit: the Hub may take minutes for it."
    yield from _stay(draft, there)
    for name in there:
        if name.rpartition("/")[2] == ".gitignore":
            yield f"`{name}` of {wish.repo_id} may keep files from being sent."


def _stay(draft: Draft, there: Collection[str]) -> Iterator[str]:
    """Files beside weights that are replaced: they may tell of the former ones."""
    ours = {piece.name for piece in draft.pieces}
    weights = {name for name in ours if name.endswith(f"/{WEIGHTS}") and name in there}
    folders = {name.rpartition("/")[0] for name in weights}
    stays = [name for name in there if name.rpartition("/")[0] in folders and name not in ours]
    if stays:
        more = f" and {len(stays) - 3:,} more" if len(stays) > 3 else ""
        named = ", ".join(f"`{name}`" for name in stays[:3])
        yield f"{named}{more} stay as they are: they may tell of the weights that were there."


def _sources(saes: Sequence[Sae], wish: Wish) -> list[str]:
    """Other repositories that files come from."""
    return sorted({it.hf_repo_id for it in saes if it.hf_repo_id} - {wish.repo_id})


def _about_names(saes: Sequence[Sae], wish: Wish, hub: Hub) -> Iterator[str]:
    """Names that card and passport tell, and that are perhaps not for everybody."""
    for name in _sources(saes, wish)[:MOST_SOURCES]:
        try:
            hub.anonymous().resolve(RepoRef(name))
        except (RepositoryNotFound, AccessDenied):
            yield f"Card and passport name {name}, which not everybody can see."
    for text in sorted({text for sae in saes for text in parcels.names_of(sae)}):
        if text.count("/") > 1 or PurePosixPath(text).suffix in FILES:
            yield f"Card and passport name `{text}`: is that a path of yours?"


def _proposed(wish: Wish, target: Target, hub: Hub, identity: Identity) -> Iterator[str]:
    if wish.as_pull_request and target.listing is not None:
        for _, url in hub.open_pull_requests(wish.repo_id, identity.name)[:1]:
            yield f"A pull request of {identity.name} is open there already: {url}"


def _known(saes: Sequence[Sae]) -> set[str]:
    return {sae.model_name for sae in saes if entry_of(sae, "", Piece("")).base_model}
